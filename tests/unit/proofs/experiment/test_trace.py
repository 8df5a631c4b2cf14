"""What a lab really recorded of some cases (cut short), its figures read again out of the outputs; and each one forged.

tests/data/proofs/traced.jsonl has the events of each case from its beginning to what was measured; of the journal only
the lines that are read, and big outputs in their place instead of as blobs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import PROOFS
from proofs.experiment.case import Case, Deployed
from proofs.experiment.trace import Trace, Untraced, differences

RECORDED = Path(__file__).parents[3] / "data" / "proofs" / "traced.jsonl"
DEPLOYED = Deployed(10.0, 2.0, (0, 0))
Event = dict[str, Any]
Key = tuple[str, str]


def _groups() -> dict[Key, list[Event]]:
    found: dict[Key, list[Event]] = {}
    going: dict[str, Key] = {}
    for line in RECORDED.read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "case":
            going[event["scope"]] = (event["scope"], event["data"]["case"])
        found.setdefault(going[event["scope"]], []).append(event)
    return found


GROUPS = _groups()


def case_of(key: Key) -> Case:
    return next(case for case in PROOFS[key[0]].cases(DEPLOYED) if case.name == key[1])


def wrong(key: Key, events: list[Event]) -> list[str]:
    """Which figures of that case these events do not bear out."""
    measured = next(event["data"] for event in events if event["kind"] == "measured")
    case = case_of(key)
    again = case.traced(case.decode(measured), Trace(events, lambda event: str(event["stdout"])))
    return differences(measured, again)


@pytest.mark.parametrize("key", GROUPS, ids=lambda key: f"{key[0]}: {key[1]}")
def test_recorded_figures_follow_from_outputs(key: Key) -> None:
    assert wrong(key, GROUPS[key]) == []


TOML, PROCESS, STAGE = ("exit12", "invalid TOML"), ("stall", "process"), ("stall", "one stage")
CONTROL, EVERY_5 = ("exit12", "control"), ("sampling", "sample_every 5")
OTHER_ROWS = {"compared": 21, "difference": "", "sources": {}, "signals": 2, "chains": ""}
CLOSES, REFUSES, SILENT = ("failover", "closes"), ("failover", "refuses"), ("failover", "goes silent")


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(
    ("key", "figure", "value"),
    [
        (TOML, "exec_main_status", 13),
        (TOML, "active", "active"),
        (TOML, "restarts", 1),
        (TOML, "starts", 2),
        (TOML, "watched_s", 1e9),
        (CONTROL, "restarts", 0),
        (CONTROL, "active", "failed"),
        (PROCESS, "seen_s", 0.5),
        (PROCESS, "seen_s", None),
        (PROCESS, "result", "success"),
        (PROCESS, "new_invocation", "ab" * 16),
        (PROCESS, "old_invocation", "ab" * 16),
        (PROCESS, "tick_after_s", 0.01),
        (PROCESS, "restarts", 0),
        (STAGE, "seen_s", 1.0),
        (STAGE, "stacks", 99),
        (STAGE, "wedge_named", False),
        (EVERY_5, "n", 5),
        (EVERY_5, "sent", 5),
        (EVERY_5, "stored", 401),
        (EVERY_5, "first_ids", [9, 9]),
        (EVERY_5, "last_id", 7),
        (EVERY_5, "final", {}),
        (EVERY_5, "rows", OTHER_ROWS),
        (CLOSES, "rows", OTHER_ROWS),
        (CLOSES, "stored_s", 1.9),
        (CLOSES, "stored_s", None),
        (CLOSES, "fault_ms", 0),
        (CLOSES, "secondary_sent", 0),
        (REFUSES, "stored_s", 1.9),
        (SILENT, "stored_s", 0.0),
    ],
)
def test_forged_figure_differs_from_outputs(key: Key, figure: str, value: Any) -> None:
    events = copy.deepcopy(GROUPS[key])
    measured = next(event for event in events if event["kind"] == "measured")
    assert figure in measured["data"]
    measured["data"][figure] = value
    assert [text.partition(" is ")[0] for text in wrong(key, events)] == [figure]


def commands(first: str) -> Callable[[Event], bool]:
    return lambda event: event["kind"] == "command" and event["argv"][:1] == [first]


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(
    ("key", "is_lost"),
    [
        (TOML, commands("journalctl")),
        (TOML, commands("systemctl")),
        (CONTROL, commands("systemctl")),
        (TOML, lambda event: event["stdout"].endswith("/etc/config.toml")),
        (PROCESS, commands("journalctl")),
        (PROCESS, commands("systemctl")),
        (PROCESS, lambda event: event["stdout"].startswith("kill -STOP")),
        (STAGE, commands("journalctl")),
        (EVERY_5, commands("journalctl")),
        (EVERY_5, lambda event: event["kind"] == "exchange stats"),
        (EVERY_5, lambda event: event["kind"] == "rows stored"),
        (CLOSES, lambda event: event["kind"] == "trades sent" and event["data"]["name"] == "secondary"),
        (CLOSES, lambda event: event["kind"] == "exchange stats"),
        (CLOSES, lambda event: event["kind"] == "waited"),
        (SILENT, lambda event: event["stdout"].startswith("kill -STOP")),
    ],
)
def test_missing_outputs_are_untraced(key: Key, is_lost: Callable[[Event], bool]) -> None:
    events = [event for event in GROUPS[key] if not is_lost(event)]
    assert len(events) < len(GROUPS[key])
    with pytest.raises(Untraced):
        wrong(key, events)


def test_failed_command_is_untraced() -> None:
    events = copy.deepcopy(GROUPS[PROCESS])
    for event in events:
        if event["argv"][:1] == ["journalctl"]:
            event["rc"] = 1
    with pytest.raises(Untraced, match="journalctl -u failed"):
        wrong(PROCESS, events)


def test_unwritten_heartbeat_is_untraced() -> None:
    events = copy.deepcopy(GROUPS[EVERY_5])
    next(event for event in events if event["kind"] == "measured")["data"]["heartbeat"]["received"] = 7
    with pytest.raises(Untraced, match="no heartbeat"):
        wrong(EVERY_5, events)


def test_witnessed_config_must_be_the_written_one() -> None:
    events = copy.deepcopy(GROUPS[TOML])
    next(event for event in events if event["kind"] == "witness")["data"]["config_sha256"] = "0" * 64
    with pytest.raises(Untraced, match="not the one that was written"):
        wrong(TOML, events)
