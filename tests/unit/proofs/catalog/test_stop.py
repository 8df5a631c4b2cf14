"""stop: what its figures come to, each wrong in turn; and how an end is read off systemd's lines."""

from __future__ import annotations

from typing import Any

import pytest

from proofs.catalog import stop
from proofs.host.unit import Entry
from tests.support.judging import DEPLOYED, judge_with, verdict_of

COUNTERS = {
    "received": 1600,
    "sampled_out": 0,
    "rejected": 0,
    "duplicate": 0,
    "dropped": 20,
    "waiting": 0,
    "admitted": 1580,
    "ticks_stored": 1580,
    "signals_stored": 158,
    "orders_stored": 158,
    "trades_stored": 158,
    "risk_vetoes": 0,
}
GOOD: dict[str, Any] = {
    "n": 1605,
    "took_s": 0.4,
    "status": 0,
    "active": "inactive",
    "stored": 1580,
    "once_and_in_order": True,
    "exit_code": 0,
    "lost": {"dropped": 15, "stop": 5},
    "final": dict(COUNTERS),
    "store": dict(COUNTERS),
    "persist_count": 1580 + 3 * 158,
    "torn": [],
    "integrity": "ok",
    "rows": {
        "compared": 1580,
        "difference": "",
        "sources": {"mock": {"stored": 1580, "missing": 15}},
        "signals": 1,
        "chains": "",
    },
}


def test_good_figures_pass() -> None:
    result = judge_with(stop.Stopped(DEPLOYED), GOOD)
    assert (str(result.verdict), result.reason) == ("PASS", "")
    assert stop.headline([result]) == "exit 0 after 0.4 s with 1580 ticks stored, all that were admitted"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"took_s": None, "status": None}, "FAIL at the guard"),
        ({"took_s": 5.01}, "FAIL at the guard"),
        ({"status": -9, "active": "failed"}, "FAIL at the guard"),
        ({"exit_code": None}, "FAIL at the guard"),
        ({"stored": 1579}, "FAIL"),
        ({"final.admitted": 1581}, "FAIL at the guard"),
        ({"final.admitted": None}, "FAIL at the guard"),
        ({"final.waiting": 1}, "FAIL at the guard"),
        ({"persist_count": 1580}, "FAIL at the guard"),
        ({"once_and_in_order": False}, "FAIL"),
        ({"lost": {"dropped": 15}}, "FAIL"),
        ({"torn": [7]}, "FAIL"),
        ({"rows.difference": "row 7: price"}, "FAIL at the guard"),
        ({"rows.chains": "row 7: order"}, "FAIL at the guard"),
        ({"rows.compared": 999}, "FAIL at the guard"),
        ({"rows.sources": {"mock": {"stored": 1580, "missing": 16}}}, "FAIL at the guard"),
        ({"integrity": "row 7 missing"}, "FAIL"),
        ({"n": 499}, "INCONCLUSIVE"),
        ({"store": ...}, "ERROR"),
        ({"store.admitted": None}, "ERROR"),
    ],
)
def test_each_figure_counts(changes: dict[str, Any], verdict: str) -> None:
    assert verdict_of(stop.Stopped(DEPLOYED), GOOD, changes) == verdict


def line(mono_s: float, message: str) -> Entry:
    return Entry(mono_s, 0.0, message, "", "", "")


@pytest.mark.parametrize(
    ("messages", "end"),
    [
        ([], None),
        (["Stopping hybrid-engine.service - Hybrid engine..."], None),
        (["u.service: Deactivated successfully."], (1.0, 0)),
        (
            [
                "u.service: Main process exited, code=exited, status=14/n/a",
                "u.service: Failed with result 'exit-code'.",
            ],
            (2.0, 14),
        ),
        (
            ["u.service: Main process exited, code=killed, status=9/KILL", "u.service: Failed with result 'signal'."],
            (2.0, -9),
        ),
        (
            ["u.service: Main process exited, code=killed, status=15/TERM", "u.service: Deactivated successfully."],
            (2.0, -15),
        ),
    ],
)
def test_end_is_read_from_the_journal(messages: list[str], end: tuple[float, int] | None) -> None:
    assert stop._end([line(float(at), message) for at, message in enumerate(messages, 1)]) == end
