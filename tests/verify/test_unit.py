"""The unit: loaded, enabled, and running as its own user where it belongs."""

from typing import Any

import pytest

from tests.verify.conftest import UNIT, assert_none


def test_loaded_from_its_own_file(state: dict[str, Any]) -> None:
    unit = state["unit"]
    assert unit["LoadState"] == "loaded", f"{UNIT} is {unit['LoadState']}: deploy it"
    assert unit["FragmentPath"] == f"/etc/systemd/system/{UNIT}"
    assert_none(state, "unread units")


def test_enabled(state: dict[str, Any]) -> None:
    assert state["unit"]["UnitFileState"] == "enabled", f"{UNIT} would not start at the next boot: deploy it"


def test_running_and_ready(state: dict[str, Any]) -> None:
    assert_none(state, "running")
    unit = state["unit"]
    assert (unit["ActiveState"], unit["SubState"], unit["Type"]) == ("active", "running", "notify")


@pytest.mark.parametrize("rule", ["user", "group"])
def test_runs_as_its_own_user(state: dict[str, Any], rule: str) -> None:
    assert state["status"], f"{UNIT} has no process"
    assert_none(state, rule)


def test_user_cannot_log_in(state: dict[str, Any]) -> None:
    assert state["shell"].endswith("nologin")


def test_works_in_its_canonical_directory(state: dict[str, Any]) -> None:
    assert_none(state, "directory")


def test_state_directory_is_its_own(state: dict[str, Any]) -> None:
    assert state["state_directory"] == {"directory": "True", "mode": "0750", "owner": "hybrid-engine"}


def test_runs_what_the_link_points_to(state: dict[str, Any]) -> None:
    assert "/opt/hybrid-engine/current/bin/hybrid-engine run" in state["unit"]["ExecStart"]


def test_no_second_copy_runs(state: dict[str, Any]) -> None:
    """Beside the unit: an earlier installation, a checkout, the release itself by hand."""
    assert_none(state, "second copies")
