"""shadow's rules, from what was measured alone."""

from __future__ import annotations

from typing import Any

import pytest

from proofs.catalog.shadow import ORDERS, PROOF, Sealed
from proofs.experiment.case import Deployed, judge
from tests.support.witnesses import genuine

GOOD = {
    "orders": ORDERS,
    "trades": ORDERS,
    "filled": ORDERS,
    "modes": ["SHADOW"],
    "restarts": 0,
    "active": "active",
    "n": 1,
}
CASE = Sealed(Deployed(10.0, 2.0, (0, 0)))


def test_shadow_work_without_network_passes() -> None:
    result = judge(CASE, genuine(CASE), GOOD)
    assert result.verdict == "PASS"
    assert PROOF.headline([result]) == f"without a network: {ORDERS} orders, {ORDERS} trades"


@pytest.mark.parametrize(
    ("measured", "failed"),
    [
        ({"orders": ORDERS - 1, "trades": ORDERS - 1, "filled": ORDERS - 1}, "orders stored"),
        ({"orders": 0, "trades": 0, "filled": 0, "modes": []}, "trades"),
        ({"trades": ORDERS - 1}, "trades"),
        ({"restarts": 1}, "restarts"),
        ({"active": "activating"}, "state"),
    ],
)
def test_missing_shadow_work_fails_at_the_guard(measured: dict[str, Any], failed: str) -> None:
    result = judge(CASE, genuine(CASE), GOOD | measured)
    assert result.failed_at_guard
    assert any(check.name.startswith(failed) for check in result.checks if check.ok is False)


def test_orders_of_another_mode_fail() -> None:
    result = judge(CASE, genuine(CASE), GOOD | {"modes": ["PAPER", "SHADOW"]})
    assert result.verdict == "FAIL"
    assert not result.failed_at_guard


def test_no_witness_is_inconclusive() -> None:
    assert judge(CASE, None, GOOD).verdict == "INCONCLUSIVE"
