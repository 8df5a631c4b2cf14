"""Judged by the catalogue alone: bounds are never measured, a figure left out or of another kind is an ERROR, and a
witness that does not show its fault is none."""

from __future__ import annotations

from typing import Any

import pytest

from proofs.catalog import PROOFS
from proofs.catalog.exit12 import BadConfig, Control
from proofs.catalog.failover import HOWS, Failover
from proofs.catalog.hardening import Sandbox
from proofs.catalog.sampling import Sampling
from proofs.catalog.stall import Frozen
from proofs.experiment.case import Case, judge
from tests.support.judging import DEPLOYED, judge_with
from tests.support.promised_sandbox import PROMISED
from tests.support.witnesses import genuine

CASES = [case for proof in PROOFS.values() for case in proof.cases(DEPLOYED)]
STALL: dict[str, Any] = {
    "n": 12,
    "seen_s": 9.8,
    "result": "watchdog",
    "old_invocation": "ab" * 16,
    "new_invocation": "cd" * 16,
    "restarts": 1,
    "tick_after_s": 0.5,
    "ticks_before": 12,
    "ticks_kept": 12,
    "rows_equal": True,
    "integrity": "ok",
    "watchdog_in_force_s": 10.0,
    "seen_bound_s": 12.0,
    "fault_ms": 1000,
}
CLOSES: dict[str, Any] = {
    "n": 1,
    "stored_s": 0.2,
    "fault_ms": 1000,
    "received_s": 0.2,
    "last_primary_ms": 990,
    "first_secondary_ms": 1200,
    "gaps": [{"from_ms": 990, "to_ms": 1200, "count": None}],
    "gap_kind": "down",
    "rejected": 0,
    "garbage_sent": 0,
    "secondary_sent": 10,
    "said": [],
    "rows": {
        "compared": 1100,
        "difference": "",
        "sources": {"secondary": {"stored": 1100, "missing": 0}},
        "signals": 1,
        "chains": "",
    },
    "first_ms": [1150, 1170],
}
COUNTERS = {
    "received": 2003,
    "sampled_out": 1603,
    "rejected": 0,
    "duplicate": 0,
    "dropped": 0,
    "waiting": 0,
    "admitted": 400,
    "ticks_stored": 400,
}
SAMPLED: dict[str, Any] = {
    "n": 2003,
    "sent": 2003,
    "stored": 400,
    "ids_match": True,
    "first_ids": [5, 10, 15],
    "last_id": 2000,
    "exit_code": 0,
    "final": COUNTERS,
    "heartbeat": COUNTERS,
    "rows": {
        "compared": 400,
        "difference": "",
        "sources": {"mock": {"stored": 400, "missing": 0}},
        "signals": 40,
        "chains": "",
    },
    "store": COUNTERS,
    "holes": [],
    "gaps": [{"kind": "down", "count": None}],
    "longest_ms": 500,
}
STALLED, CLOSED, EVERY_5 = Frozen(DEPLOYED), Failover(DEPLOYED, HOWS[0]), Sampling(DEPLOYED, 5)
BROKEN = BadConfig(DEPLOYED, "x", "x", "x")
REFUSED: dict[str, Any] = {
    "n": 1,
    "exec_main_status": 12,
    "active": "failed",
    "sub": "failed",
    "result": "exit-code",
    "restarts": 0,
    "starts": 1,
    "first_seen": "failed",
    "watched_s": 6.0,
    "said": ["config.toml: is not valid TOML"],
}


@pytest.mark.parametrize(
    ("case", "figures"), [(STALLED, STALL), (CLOSED, CLOSES), (EVERY_5, SAMPLED), (BROKEN, REFUSED)]
)
def test_good_figures_pass(case: Case, figures: dict[str, Any]) -> None:
    assert (judge_with(case, figures).verdict, judge_with(case, figures).reason) == ("PASS", "")


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(
    ("case", "figures", "changes", "verdict"),
    [
        (STALLED, STALL, {"seen_s": 100.0, "seen_bound_s": 1000.0}, "FAIL"),
        (STALLED, STALL, {"watchdog_in_force_s": 10.5}, "FAIL"),
        (STALLED, STALL, {"watchdog_in_force_s": 0.0}, "FAIL"),
        (CLOSED, CLOSES, {"stored_s": 50.0}, "FAIL"),
        (CLOSED, CLOSES, {"rows.difference": "row 7: price"}, "FAIL"),
        (CLOSED, CLOSES, {"rows.sources": {"secondary": {"stored": 1100, "missing": 1}}}, "FAIL"),
        (EVERY_5, SAMPLED, {"rows.difference": "row 7: price"}, "FAIL"),
        (EVERY_5, SAMPLED, {"rows.signals": 39}, "FAIL"),
        (EVERY_5, SAMPLED, {"gaps": []}, "FAIL"),
        (EVERY_5, SAMPLED, {"longest_ms": 1335}, "FAIL"),
        (EVERY_5, SAMPLED, {"gaps": [{"kind": "down"}, {"kind": "missed", "count": 1}]}, "FAIL"),
        (EVERY_5, SAMPLED, {"holes": [{"count": 1, "before_ms": 7, "after_ms": 9}]}, "FAIL"),
        (EVERY_5, SAMPLED, {"seed": 7}, "ERROR"),
        (CLOSED, CLOSES, {"stored_s": 50.0, "bound_s": 100.0}, "ERROR"),
        (CLOSED, CLOSES, {"gaps": [{"from_ms": None, "to_ms": 1200}]}, "ERROR"),
        (CLOSED, CLOSES, {"gap_kind": "rejected", "gaps": [], "garbage_sent": 20, "rejected": 20}, "FAIL"),
        (STALLED, STALL, {"bound_s": 1000.0}, "ERROR"),
        (STALLED, STALL, {"new_invocation": None}, "ERROR"),
        (STALLED, STALL, {"new_invocation": ...}, "ERROR"),
        (STALLED, STALL, {"integrity": ...}, "ERROR"),
        (STALLED, STALL, {"tick_after_s": ...}, "ERROR"),
        (STALLED, STALL, {"seen_s": -5.0}, "ERROR"),
        (STALLED, STALL, {"seen_s": True}, "ERROR"),
        (STALLED, STALL, {"seen_s": float("nan")}, "ERROR"),
        (STALLED, STALL, {"rows_equal": "no"}, "ERROR"),
        (STALLED, STALL, {"rows_equal": 1}, "ERROR"),
        (STALLED, STALL, {"ticks_kept": 7}, "FAIL"),
        (STALLED, STALL, {"n": True}, "ERROR"),
        (STALLED, STALL, {"n": "12"}, "ERROR"),
        (STALLED, STALL, {"new_invocation": "another"}, "ERROR"),
        (EVERY_5, SAMPLED, {"ids_match": "yes"}, "ERROR"),
        (EVERY_5, SAMPLED, {"final": dict.fromkeys(COUNTERS, True)}, "ERROR"),
        (EVERY_5, SAMPLED, {"heartbeat": ...}, "ERROR"),
        (BROKEN, REFUSED, {"starts": True}, "ERROR"),
        (BROKEN, REFUSED, {"watched_s": "6"}, "ERROR"),
        (Control(DEPLOYED), {"n": 1, "restarts": 1, "active": "active"}, {"restarts": True}, "ERROR"),
    ],
)
def test_figures_are_decoded_strictly(
    case: Case, figures: dict[str, Any], changes: dict[str, Any], verdict: str
) -> None:
    assert judge_with(case, figures, changes).verdict == verdict


def test_module_loading_reasons_are_the_catalogues() -> None:
    case = Sandbox(DEPLOYED)
    tried = [check.name for check in judge(case, genuine(case), _sandbox("a container's root may not")).checks]
    assert "load a module" not in tried
    assert judge(case, genuine(case), _sandbox("because I say so")).verdict == "INCONCLUSIVE"


def _sandbox(no_modules: str) -> dict[str, Any]:
    from proofs.catalog.hardening import TRIED

    outside = {name: "EPERM" if name == "load a module" else "" for name in TRIED}
    inside = dict.fromkeys(TRIED, "EPERM")
    refused = {"refused_inside": inside, "refused_outside": outside, "no_modules": no_modules}
    return {"n": 10, "exposure": 1.0, **refused, **PROMISED}


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{type(case).__name__}-{case.name}")
def test_forged_witness_is_inconclusive(case: Case) -> None:
    seen = genuine(case)
    assert case.shows_fault(seen)
    for forged in ("yes", True, {"seen": "it"}, [1], {"state": "R"}, {"sent": 5}):
        result = judge(case, forged, {"n": 1})
        assert (result.verdict, result.reason) == ("INCONCLUSIVE", "what was witnessed does not show the fault")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{type(case).__name__}-{case.name}")
def test_each_field_of_a_witness_counts(case: Case) -> None:
    seen = genuine(case)
    for name in seen:
        for spoiled in ({key: seen[key] for key in seen if key != name}, {**seen, name: None}, {**seen, name: -1}):
            reason = "what was witnessed does not show the fault"
            assert not spoiled or judge(case, spoiled, {"n": 1}).reason == reason, name


@pytest.mark.holds("G5")
@pytest.mark.parametrize(
    ("name", "value"),
    [("exec_main_status", 0), ("active", "activating"), ("restarts", 1), ("starts", 2), ("watched_s", 5.9)],
)
def test_start_after_a_bad_config_fails_at_the_guard(name: str, value: Any) -> None:
    assert judge_with(BROKEN, {**REFUSED, name: value}).failed_at_guard
