"""What it does: frames arrive, the books balance, its lines can be read."""

import json
from typing import Any

TERMS = ("sampled_out", "rejected", "duplicate", "dropped", "waiting", "admitted")


def check(seen: dict[str, Any], name: str) -> dict[str, Any]:
    found = seen["health"].get("checks", [])
    return next((entry for entry in found if entry["name"] == name), {"ok": False, "detail": str(seen["health"])})


def lines(seen: dict[str, Any], message: str) -> list[dict[str, Any]]:
    read = [json.loads(line)["fields"] for line in seen["journal"]]
    return [fields for fields in read if fields.get("message") == message]


def test_log_lines_parse(seen: dict[str, Any]) -> None:
    assert seen["journal"], "nothing in the journal of this start"
    for line in seen["journal"]:
        entry = json.loads(line)
        assert {"timestamp", "level", "fields", "target"} <= set(entry), line
        assert entry["fields"]["message"], line


def test_ready_was_said(seen: dict[str, Any]) -> None:
    assert lines(seen, "ready"), "this start never said that it was ready"


def test_books_balance_in_the_database(seen: dict[str, Any]) -> None:
    books = check(seen, "books")
    assert books["ok"], books["detail"]


def test_books_balance_in_the_last_heartbeat(seen: dict[str, Any], told: list[str]) -> None:
    beats = lines(seen, "HEARTBEAT")
    if not beats:
        told.append("NOTE: no HEARTBEAT line yet, the engine started a moment ago; its books are read off the database")
        return
    last = beats[-1]
    assert last["received"] == sum(last[term] for term in TERMS), last
    assert last["tick_count"] == last["admitted"] == last["ingest_processed"], last
    assert last["bp_drops_signal"] == last["bp_drops_persist"] == 0, last


def test_durability_is_what_is_configured(seen: dict[str, Any]) -> None:
    """As the writer read it back of its own connection; a release before that check says nothing of it."""
    found = [entry for entry in seen["health"].get("checks", []) if entry["name"] == "durability"]
    assert all(entry["ok"] for entry in found), found


def test_counters_are_fresh(seen: dict[str, Any]) -> None:
    running = check(seen, "running")
    assert running["ok"], running["detail"]


def test_frames_arrive(seen: dict[str, Any], told: list[str]) -> None:
    """A quiet market still sends heartbeats and pongs: no trades for a while is no failure, no frames is one."""
    frames = check(seen, "frames")
    assert frames["ok"], frames["detail"]
    beats = lines(seen, "HEARTBEAT")
    if len(beats) > 1 and beats[-1]["received"] == beats[-2]["received"]:
        told.append(f"NOTE: a quiet market: no trade between the last two heartbeats ({frames['detail']})")
