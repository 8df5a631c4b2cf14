"""Release, configuration and every other deployed file are as deployed, and the process runs them."""

from typing import Any

from tests.verify.conftest import assert_none


def test_process_runs_the_live_release(state: dict[str, Any]) -> None:
    assert state["running"], "the database has no row of a run that goes on"
    assert_none(state, "running release")


def test_release_is_remembered_and_not_void(state: dict[str, Any]) -> None:
    name = state["release"]["name"]
    assert name in state["releases"]["history"], f"{name} is live and not in /var/lib/hybrid-deploy/releases.json"
    assert name not in state["releases"]["void"], f"{name} is live and marked void"


def test_release_is_what_its_name_says(state: dict[str, Any]) -> None:
    assert_none(state, "release contents")


def test_bytecode_is_what_was_compiled(state: dict[str, Any]) -> None:
    assert_none(state, "release bytecode")


def test_release_holds_nothing_else_and_is_roots(state: dict[str, Any]) -> None:
    assert_none(state, "release ownership")


def test_nobody_else_may_replace_a_release(state: dict[str, Any]) -> None:
    assert_none(state, "release directories")


def test_process_runs_the_deployed_configuration(state: dict[str, Any]) -> None:
    check = state["config_check"]
    assert check["rc"] == 0, f"the configuration in /etc is refused: {check['error']}"
    digest = check["output"][-1].removeprefix("config digest ")
    assert state["running"].get("config_digest") == digest, "the process runs another configuration than /etc holds"


def test_deployed_files_are_as_deployed(state: dict[str, Any]) -> None:
    assert_none(state, "deployed files")
    assert_none(state, "running configuration")


def test_deployed_links_are_as_deployed(state: dict[str, Any]) -> None:
    assert_none(state, "deployed links")
