"""A real recording of `stall` (an excerpt, see tests/support/excerpt.py), judged again by the rules of today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import PROOFS
from proofs.evidence import recorder
from proofs.verifier import recompute
from tests.support.proof_run import rechained

RECORDED = Path(__file__).parents[3] / "data" / "proofs" / "stall.jsonl"
Event = dict[str, Any]


@pytest.fixture
def events() -> list[Event]:
    return recorder.read(RECORDED)


def measured(events: list[Event], scope: str = "stall") -> list[Event]:
    return [event["data"] for event in events if event["kind"] == "measured" and event["scope"] == scope]


def entry(events: list[Event]) -> tuple[Event, list[str]]:
    statement, problems = recompute.rebuild(rechained(events), PROOFS)
    (proof,) = statement["predicate"]["proofs"]
    return proof, problems


def test_recorded_verdict_follows_from_the_measurements(events: list[Event]) -> None:
    proof, problems = entry(events)
    assert problems == []
    assert proof == next(event["data"] for event in events if event["kind"] == "verdict")
    assert (proof["verdict"], proof["restored"], proof["mutant"]["verdict"]) == ("PASS", True, "FAIL")
    assert [case["case"] for case in proof["cases"]] == ["process", "one stage", "each stage"]


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("seen_s", 12.001, "FAIL"),
        ("seen_s", None, "FAIL"),
        ("tick_after_s", 5.1, "FAIL"),
        ("n", 0, "INCONCLUSIVE"),
        ("rows_equal", False, "FAIL"),
        ("integrity", "row 7 missing", "FAIL"),
        ("result", "signal", "FAIL"),
    ],
)
def test_changed_measurement_changes_the_verdict_and_is_reported_by_line(
    events: list[Event], key: str, value: Any, verdict: str
) -> None:
    measured(events)[0][key] = value
    proof, problems = entry(events)
    assert proof["verdict"] == verdict
    judged = next(e for e in events if e["kind"] == "judged" and e["scope"] == "stall")
    assert any(line.startswith(f"line {judged['seq'] + 1}: stall: what was judged of process") for line in problems)
    assert any(line.startswith(f"line {events[-1]['seq'] + 1}: stall: the verdict of stall") for line in problems)


def test_mutant_that_passes_voids_the_proof(events: list[Event]) -> None:
    measured(events, "stall/mutant no-watchdog")[0].update(measured(events)[0])
    proof, problems = entry(events)
    assert proof["verdict"] == "INCONCLUSIVE"
    assert "void, a mutant was not caught: no-watchdog said PASS" in proof["reason"]
    assert problems
