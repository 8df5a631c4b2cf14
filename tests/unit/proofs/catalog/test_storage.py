"""storage's refused databases and its retention: what their figures come to, each wrong in turn."""

from __future__ import annotations

from typing import Any

import pytest

from proofs.catalog._refused import Corrupt, Foreign, Held, NoSync
from proofs.catalog._retention import Retention
from proofs.experiment.case import Case
from tests.support.judging import DEPLOYED, judge_with, verdict_of

END: dict[str, Any] = {"n": 1, "ends": [14], "ready": 0, "before": "[]", "after": "[]"}
OLD = {"ticks": [1, 2, 3, 4], "signals": [2, 4], "orders": [2, 4], "trades": [2, 4], "gaps": [1, 2]}
NONE: dict[str, list[int]] = {name: [] for name in OLD}
EXPIRED: dict[str, Any] = {
    "n": 60,
    "due": OLD,
    "gone_with_0": NONE,
    "gone": OLD,
    "expired": 4,
    "torn": [],
    "broken_references": 0,
    "integrity": "ok",
    "replayed": [12],
}


@pytest.mark.parametrize("kind", [Foreign, Corrupt, Held, NoSync])
@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "PASS"),
        ({"ends": [], "ready": 1}, "FAIL at the guard"),
        ({"ready": 1}, "FAIL at the guard"),
        ({"ends": [14, 1]}, "FAIL at the guard"),
        ({"ends": [12]}, "FAIL at the guard"),
        ({"after": '[{"name": "ticks"}]'}, "FAIL at the guard"),
    ],
)
def test_each_figure_of_a_refusal_counts(kind: type[Case], changes: dict[str, Any], verdict: str) -> None:
    assert verdict_of(kind(DEPLOYED), END, changes) == verdict


@pytest.mark.parametrize("kind", [Foreign, Corrupt, NoSync])
def test_look_that_shows_nothing_new_is_no_witness(kind: type[Case]) -> None:
    assert judge_with(kind(DEPLOYED), END, witness={"before": "ok", "now": "ok"}).verdict == "INCONCLUSIVE"


def test_sandbox_in_which_syncing_was_refused_before_is_no_witness() -> None:
    assert judge_with(NoSync(DEPLOYED), END, witness={"before": "EPERM", "now": "EACCES"}).verdict == "INCONCLUSIVE"
    assert judge_with(NoSync(DEPLOYED), END, witness={"before": "", "now": "None"}).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "PASS"),
        ({"gone_with_0": OLD}, "FAIL at the guard"),
        ({"gone": NONE}, "FAIL at the guard"),
        ({"gone": {**OLD, "ticks": [1, 2, 3, 4, 5]}}, "FAIL at the guard"),
        ({"gone": {**OLD, "gaps": [1, 2, 3]}}, "FAIL at the guard"),
        ({"gone": {**OLD, "trades": [2]}}, "FAIL at the guard"),
        ({"due": {**OLD, "gaps": []}, "gone": {**OLD, "gaps": []}}, "FAIL"),
        ({"expired": 0}, "FAIL at the guard"),
        ({"torn": [2]}, "FAIL at the guard"),
        ({"broken_references": 1}, "FAIL"),
        ({"integrity": "row 7 missing"}, "FAIL"),
        ({"replayed": []}, "FAIL at the guard"),
        ({"n": 59}, "INCONCLUSIVE"),
    ],
)
def test_each_figure_of_retention_counts(changes: dict[str, Any], verdict: str) -> None:
    assert verdict_of(Retention(DEPLOYED), EXPIRED, changes) == verdict
