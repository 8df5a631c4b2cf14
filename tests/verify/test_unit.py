"""The unit: loaded, enabled, and running as its own user where it belongs."""

from typing import Any

import pytest

from tests.verify.conftest import UNIT, source

FILE = f"/etc/systemd/system/{UNIT}"


def test_loaded_from_its_own_file(seen: dict[str, Any]) -> None:
    unit = seen["unit"]
    assert unit["LoadState"] == "loaded", f"{UNIT} is {unit['LoadState']}: deploy it"
    assert unit["FragmentPath"] == f"/etc/systemd/system/{UNIT}"
    assert unit["NeedDaemonReload"] == "no", "its files changed since systemd read them: deploy, or daemon-reload"


def test_enabled(host: Any) -> None:
    assert host.service(UNIT).is_enabled, f"{UNIT} would not start at the next boot: deploy it"


def test_running_and_ready(host: Any, seen: dict[str, Any]) -> None:
    assert host.service(UNIT).is_running
    unit = seen["unit"]
    assert (unit["ActiveState"], unit["SubState"], unit["Type"]) == ("active", "running", "notify")


@pytest.mark.parametrize("kind", ["Uid", "Gid"])
def test_runs_as_its_own_user(seen: dict[str, Any], kind: str) -> None:
    table = seen["passwd"]["passwd" if kind == "Uid" else "group"]
    number = next((entry[2] for entry in table if entry[0] == "hybrid-engine"), "no such user")
    runs_as = seen["status"][kind].split()
    assert runs_as == [number] * 4, f"the process runs as {runs_as} where {number} belongs {source(seen, FILE)}"
    assert number != "0"


def test_user_cannot_log_in(host: Any) -> None:
    assert host.user("hybrid-engine").shell.endswith("nologin")


def test_works_in_its_canonical_directory(seen: dict[str, Any]) -> None:
    elsewhere = f"the process works elsewhere than in its state directory {source(seen, FILE)}"
    assert seen["cwd"] == "/var/lib/hybrid-engine", elsewhere
    assert seen["unit"]["WorkingDirectory"] == "/var/lib/hybrid-engine"


def test_state_directory_is_its_own(seen: dict[str, Any]) -> None:
    number = next(entry[2] for entry in seen["passwd"]["passwd"] if entry[0] == "hybrid-engine")
    assert (seen["state"]["kind"], seen["state"]["mode"], str(seen["state"]["uid"])) == ("directory", "0750", number)


def test_runs_what_the_link_points_to(seen: dict[str, Any]) -> None:
    assert seen["unit"]["ExecStart"].count("/opt/hybrid-engine/current/bin/hybrid-engine run") >= 1


def test_no_second_copy_runs(seen: dict[str, Any]) -> None:
    """Beside the unit: an earlier installation, somebody's checkout, the release itself by hand."""
    assert not seen["strays"], "; ".join(seen["strays"])
