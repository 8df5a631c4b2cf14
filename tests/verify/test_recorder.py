"""The flight recorder, where one is deployed: as deployed, enabled, and its newest record is new."""

from typing import Any

NAME = "hybrid-health-snapshot"
# A record every 5 minutes, and one may be late.
NEW_S = 660


def test_its_files_are_as_deployed(seen: dict[str, Any], told: list[str]) -> None:
    recorder = seen["recorder"]
    if not recorder["deployed"]:
        told.append("NOT DEPLOYED: the flight recorder (flight_recorder_state: absent, or an earlier deployment)")
        return
    wrong = []
    for path, wanted in recorder["deployed"]["files"].items():
        found = recorder["found"][path]
        if found.get("sha256") != wanted["sha256"]:
            wrong.append(f"{path}: {'content' if found['kind'] == 'file' else found['kind']}")
        elif (found["uid"], found["gid"], found["mode"]) != (0, 0, wanted["mode"]):
            wrong.append(f"{path}: owner or mode")
    assert not wrong, "; ".join(wrong)


def test_the_timer_runs_and_its_record_is_new(seen: dict[str, Any]) -> None:
    recorder = seen["recorder"]
    if not recorder["deployed"]:
        return
    timer, service = recorder["timer"], recorder["service"]
    assert (timer["ActiveState"], timer["UnitFileState"]) == ("active", "enabled"), "the timer is off: deploy"
    assert "no" == timer["NeedDaemonReload"] == service["NeedDaemonReload"], "its files changed since: deploy"
    assert service["Result"] == "success", f"the last record failed: journalctl -u {NAME}"
    known = [path for path in recorder["deployed"]["files"] if f"/{NAME}.service.d/" in path]
    assert service["DropInPaths"].split() == sorted(known), "other drop-ins are in force than those deployed"
    assert recorder["idle_s"] < NEW_S, "no record for longer than two turns of the timer"
