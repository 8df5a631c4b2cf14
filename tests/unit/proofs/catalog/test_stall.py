"""stall's rules for single stages: each one has to be seen by itself, in an absolute time."""

from __future__ import annotations

from typing import Any

import pytest

from proofs.catalog.stall import STAGES, Stages
from proofs.experiment.case import Deployed, judge
from proofs.experiment.stopped_threads import MAIN
from tests.support.judging import DEPLOYED
from tests.support.witnesses import genuine

SEEN: dict[str, Any] = {
    "watchdog_in_force_s": 10.0,
    "seen_s": 9.8,
    "result": "watchdog",
    "replaced": True,
    "tick_after_s": 0.5,
    "ticks_before": 12,
    "ticks_kept": 12,
    "rows_equal": True,
    "integrity": "ok",
    "threads": 6,
    "stacks": 6,
}
UNSEEN: dict[str, Any] = {"seen_s": None, "result": "", "replaced": False, "tick_after_s": None, "stacks": 0}
CASE = Stages(DEPLOYED)


def verdict_of(case: Stages, stage: str, changes: dict[str, Any]) -> str:
    stages = {name: SEEN | (changes if name == stage else {}) for name in STAGES}
    result = judge(case, genuine(case), {"n": 12, "stages": stages})
    return f"{result.verdict} at the guard" if result.failed_at_guard else str(result.verdict)


@pytest.mark.holds("WATCHDOG")
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_counts(stage: str) -> None:
    assert verdict_of(CASE, stage, {}) == "PASS"
    assert verdict_of(CASE, stage, UNSEEN) == "FAIL at the guard"
    assert verdict_of(CASE, stage, {"seen_s": 12.1}) == "FAIL at the guard"
    others: dict[str, list[Any]] = {"result": ["signal"], "replaced": [False], "tick_after_s": [None, 5.1]}
    others |= {"ticks_kept": [11], "rows_equal": [False], "integrity": ["row 7"], "stacks": [5]}
    for name, value in ((name, value) for name, values in others.items() for value in values):
        assert verdict_of(CASE, stage, {name: value}) == "FAIL"


@pytest.mark.parametrize("in_force_s", [0.0, 10.1])
def test_watchdog_other_than_promised_fails_at_the_guard(in_force_s: float) -> None:
    assert verdict_of(CASE, "persist", {"watchdog_in_force_s": in_force_s}) == "FAIL at the guard"


def test_long_watchdog_does_not_widen_the_bound() -> None:
    slow = Stages(Deployed(600.0, 2.0, (0, 0)))
    assert verdict_of(slow, "persist", {"seen_s": 500.0}) == "FAIL at the guard"


def test_stage_left_out_fails_at_the_guard() -> None:
    stages = {name: SEEN for name in STAGES if name != MAIN}
    assert judge(CASE, genuine(CASE), {"n": 12, "stages": stages}).failed_at_guard


@pytest.mark.parametrize("changes", [{"name": "persist"}, {"state": "S"}, {"others": {}}, {"others": {"x 1": "t"}}])
def test_other_stops_are_no_witness(changes: dict[str, Any]) -> None:
    seen = genuine(CASE)
    assert not CASE.shows_fault(seen | {"ingest": seen["ingest"] | changes})
