"""shadow's rules, from what was measured alone."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from proofs.catalog.shadow import ATTEMPTS, ORDERS, ORDERS_OPEN, PROOF, TRAPPED, Open, Sealed
from proofs.experiment import sandbox_probe
from proofs.experiment.case import Case, Deployed, judge
from tests.support.witnesses import genuine

DEPLOYED = Deployed(10.0, 2.0, (0, 0))
SEALED, OPEN = Sealed(DEPLOYED), Open(DEPLOYED)


def work(orders: int) -> dict[str, Any]:
    counts = dict.fromkeys(("orders", "trades", "exact", "filled"), orders)
    return {**counts, "modes": ["SHADOW"], "restarts": 0, "active": "active", "n": 1}


GOOD = work(ORDERS)
QUIET = {**work(ORDERS_OPEN), "counted": {}, "sockets": [], "children": 0}


def test_shadow_work_passes_in_both_networks() -> None:
    results = [judge(SEALED, genuine(SEALED), GOOD), judge(OPEN, genuine(OPEN), QUIET)]
    assert [result.verdict for result in results] == ["PASS", "PASS"]
    assert PROOF.headline(results).split("; ") == [
        f"without a network: {ORDERS} orders, {ORDERS} trades",
        f"in an open one: {ORDERS_OPEN} orders, {ORDERS_OPEN} trades",
    ]


@pytest.mark.parametrize(("case", "good"), [(SEALED, GOOD), (OPEN, QUIET)])
@pytest.mark.parametrize(
    ("missing", "changes", "failed"),
    [
        (1, {}, "orders stored"),
        (0, {"orders": 0, "trades": 0, "filled": 0, "exact": 0, "modes": []}, "trades"),
        (0, {"trades": 1, "exact": 1}, "trades"),
        (0, {"restarts": 1}, "restarts"),
        (0, {"active": "activating"}, "state"),
    ],
)
def test_missing_shadow_work_fails_at_the_guard(
    case: Case, good: dict[str, Any], missing: int, changes: dict[str, Any], failed: str
) -> None:
    result = judge(case, genuine(case), good | work(good["orders"] - missing) | changes)
    assert result.failed_at_guard
    assert any(check.name.startswith(failed) for check in result.checks if check.ok is False)


@pytest.mark.parametrize("changes", [{"modes": ["PAPER", "SHADOW"]}, {"exact": ORDERS - 1}])
def test_orders_of_another_mode_or_price_fail(changes: dict[str, Any]) -> None:
    result = judge(SEALED, genuine(SEALED), GOOD | changes)
    assert result.verdict == "FAIL"
    assert not result.failed_at_guard


@pytest.mark.parametrize(
    "trace", [{"counted": {"Udp OutDatagrams": 1}}, {"sockets": ["udp: 1"]}, {"children": 40}, {"restarts": 1}]
)
def test_attempt_in_an_open_network_fails_at_the_guard(trace: dict[str, Any]) -> None:
    assert judge(OPEN, genuine(OPEN), QUIET | trace).failed_at_guard


@pytest.mark.parametrize(
    "forged",
    [
        {"netns": "net:[1]"},
        {"interfaces": ["lo", "eth0"]},
        {"refused_before": dict.fromkeys(ATTEMPTS, "ENETUNREACH")},
        {"refused_before": {}},
        *({"refused": dict.fromkeys(ATTEMPTS, TRAPPED) | {words: ""}} for words in ATTEMPTS),
        {"refused": {}},
    ],
)
def test_network_that_is_not_open_or_not_trapped_is_inconclusive(forged: dict[str, Any]) -> None:
    assert judge(OPEN, genuine(OPEN) | forged, QUIET).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("refused", ["EAFNOSUPPORT", "EADDRNOTAVAIL"])
def test_host_without_ipv6_can_show_it(refused: str) -> None:
    witness = genuine(OPEN)
    for words in ("stream=::1", "datagram=::1"):
        witness["refused_before"] = witness["refused_before"] | {words: refused}
    assert judge(OPEN, witness, QUIET).verdict == "PASS"
    witness["refused_before"] = witness["refused_before"] | {"stream=127.0.0.1": refused}
    assert judge(OPEN, witness, QUIET).verdict == "INCONCLUSIVE"


def test_no_witness_is_inconclusive() -> None:
    assert judge(SEALED, None, GOOD).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("words", [words for words in ATTEMPTS if "=@" in words or "=127." in words])
def test_probe_connects_where_nothing_forbids_it(words: str) -> None:
    assert sandbox_probe.attempt(words) == ""


def test_probe_reports_what_killed_an_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sandbox_probe.ATTEMPTS, "stream", lambda place: os.kill(os.getpid(), signal.SIGSYS))
    assert sandbox_probe.attempt("stream=x") == TRAPPED
