"""The flight recorder, where one is deployed: as deployed, enabled, and its newest record is recent."""

from typing import Any

from tests.verify.conftest import assert_none

NAME = "hybrid-health-snapshot"
# A record every 5 minutes, and one may be late.
MAX_AGE_S = 660


def test_its_files_are_as_deployed(state: dict[str, Any], notes: list[str]) -> None:
    if not state["recorder"]["deployed"]:
        notes.append("NOT DEPLOYED: the flight recorder (flight_recorder_state: absent, or an earlier deployment)")
    assert_none(state, "recorder")


def test_the_timer_runs_and_its_record_is_new(state: dict[str, Any]) -> None:
    recorder = state["recorder"]
    if not recorder["deployed"]:
        return
    timer, service = recorder["timer"], recorder["service"]
    assert (timer["ActiveState"], timer["UnitFileState"]) == ("active", "enabled"), f"{NAME}.timer is off: deploy"
    assert service["Result"] == "success", f"the last record failed: see journalctl -u {NAME}"
    assert service["User"] == "hybrid-flight-recorder", (
        "the engine can end a recorder that runs as its own user: deploy"
    )
    assert recorder["idle_s"] < MAX_AGE_S, f"no record for longer than two turns of {NAME}.timer"
