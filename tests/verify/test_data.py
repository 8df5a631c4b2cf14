"""The engine at work: frames arrive, the accounting balances, its log lines parse."""

import json
from typing import Any

TERMS = ("sampled_out", "rejected", "duplicate", "dropped", "waiting", "admitted")


def check(state: dict[str, Any], name: str) -> dict[str, Any]:
    checks = state["health"].get("checks", [])
    return next((entry for entry in checks if entry["name"] == name), {"ok": False, "detail": str(state["health"])})


def lines(state: dict[str, Any], message: str) -> list[dict[str, Any]]:
    entries = [json.loads(line)["fields"] for line in state["journal"]]
    return [fields for fields in entries if fields.get("message") == message]


def test_log_lines_parse(state: dict[str, Any], notes: list[str]) -> None:
    if not state["journal"]:
        notes.append(
            "NOTE: the journal has nothing of this start: log lines are not checked (all else is read elsewhere)"
        )
    for line in state["journal"]:
        entry = json.loads(line)
        assert {"timestamp", "level", "fields", "target"} <= set(entry), line
        assert entry["fields"]["message"], line


def test_ready_is_logged(state: dict[str, Any]) -> None:
    """Where the journal still has the start; that systemd was told, test_running_and_ready asserts."""
    assert lines(state, "ready") or not lines(state, "engine starting"), "this start never logged that it was ready"


def test_accounting_balances_in_the_database(state: dict[str, Any]) -> None:
    accounting = check(state, "books")
    assert accounting["ok"], accounting["detail"]


def test_accounting_balances_in_the_last_heartbeat(state: dict[str, Any], notes: list[str]) -> None:
    heartbeats = lines(state, "HEARTBEAT")
    if not heartbeats:
        notes.append("NOTE: no HEARTBEAT line yet, the engine has just started: accounting checked in the database")
        return
    last = heartbeats[-1]
    assert last["received"] == sum(last[term] for term in TERMS), last
    assert last["tick_count"] == last["admitted"] == last["ingest_processed"], last
    assert last["bp_drops_signal"] == last["bp_drops_persist"] == 0, last


def test_durability_is_what_is_configured(state: dict[str, Any]) -> None:
    """As the writer read it back from its own connection; releases before that check do not report it."""
    durability = [entry for entry in state["health"].get("checks", []) if entry["name"] == "durability"]
    assert all(entry["ok"] for entry in durability), durability


def test_counters_are_fresh(state: dict[str, Any]) -> None:
    running = check(state, "running")
    assert running["ok"], running["detail"]


def test_frames_arrive(state: dict[str, Any], notes: list[str]) -> None:
    """A quiet market still sends heartbeats and pongs: no trades is no failure, no frames is one."""
    frames = check(state, "frames")
    assert frames["ok"], frames["detail"]
    heartbeats = lines(state, "HEARTBEAT")
    if len(heartbeats) > 1 and heartbeats[-1]["received"] == heartbeats[-2]["received"]:
        notes.append(f"NOTE: a quiet market: no trade between the last two heartbeats ({frames['detail']})")
