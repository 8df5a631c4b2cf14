"""exit12's rules: which ends are followed by a restart, how soon, and by which settings of the unit."""

from __future__ import annotations

from typing import Any

import pytest

from proofs.catalog.exit12 import ENDS, RULES, Ends
from proofs.experiment.case import Deployed, judge
from tests.support.judging import DEPLOYED, verdict_of
from tests.support.witnesses import genuine

MEASURED: dict[str, Any] = {
    "n": len(ENDS),
    "rules": RULES,
    "restart_s": 2.0,
    "after_s": {str(number): 2.1 if again else None for number, again in ENDS.items()},
    "active": {str(number): "active" for number in ENDS} | {"0": "inactive", "12": "failed"},
}
CASE = Ends(DEPLOYED)


def test_promised_restarts_pass() -> None:
    assert verdict_of(CASE, MEASURED, {}) == "PASS"
    assert verdict_of(CASE, MEASURED, {"rules.RestartSteps": "0", "rules.RestartMode": "normal"}) == "PASS"


@pytest.mark.holds("G5")
@pytest.mark.parametrize("number", ENDS)
def test_each_end_counts(number: int) -> None:
    other = None if ENDS[number] else 2.1
    assert verdict_of(CASE, MEASURED, {f"after_s.{number}": other}) == "FAIL at the guard"
    assert verdict_of(CASE, MEASURED, {f"after_s.{number}": ...}) == ("FAIL at the guard" if other is None else "PASS")


@pytest.mark.holds("G5")
@pytest.mark.parametrize("name", RULES)
def test_each_rule_counts(name: str) -> None:
    assert verdict_of(CASE, MEASURED, {f"rules.{name}": "99"}) == "FAIL at the guard"
    assert verdict_of(CASE, MEASURED, {f"rules.{name}": ...}) == "FAIL at the guard"


@pytest.mark.parametrize(
    "changes",
    [
        {"rules.RestartSteps": "5"},
        {"restart_s": 6.0},
        {"after_s.13": 3.1},
        {"active.12": "active"},
        {"active.0": "failed"},
        {"active.12": ...},
    ],
)
def test_other_restarts_fail_at_the_guard(changes: dict[str, Any]) -> None:
    assert verdict_of(CASE, MEASURED, changes) == "FAIL at the guard"


def test_long_restart_sec_does_not_widen_the_bound() -> None:
    slow = MEASURED | {"restart_s": 60.0, "after_s": MEASURED["after_s"] | {"1": 60.5}}
    case = Ends(Deployed(10.0, 60.0, (0, 0)))
    failed = [check.name for check in judge(case, genuine(case), slow).checks if not check.ok]
    assert failed == ["RestartSec in force (s)", "seconds to the next start"]


def test_copy_that_ended_otherwise_is_no_witness() -> None:
    seen = genuine(CASE)
    assert not CASE.shows_fault(seen | {"ended": seen["ended"] | {"13": 1}})
