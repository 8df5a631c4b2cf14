"""The runner of the faults: what it selects, resumes, and concludes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations import __main__ as command
from tests.mutations import results as reports
from tests.mutations.detectors import DETECTORS, KINDS, mirror_of, promise_tests
from tests.mutations.results import Line, Results
from tests.mutations.table import FAULTS
from tests.support.process import ROOT

FAULT, OTHER = FAULTS[0], FAULTS[1]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "lines.jsonl", "tree", FAULTS)


def add(results: Results, detector: str, caught: bool | None) -> None:
    results.add(Line(FAULT.name, results.trees[FAULT.name], detector, caught, "by", 1.0))


def test_a_seed_repeats_its_tenth() -> None:
    tenth = command.random_tenth(7)
    assert tenth == command.random_tenth(7)
    assert tenth != command.random_tenth(8)
    assert len(tenth) == -(-len(FAULTS) // 10)


def test_results_are_resumed_for_the_same_tree_and_fault(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    first = Results(path, "tree", FAULTS)
    add(first, "mirror", True)
    path.write_text(path.read_text() + '{"fault": "cut o')
    again = Results(path, "tree", FAULTS)
    line = again.get(FAULT.name, "mirror")
    assert line is not None
    assert line.caught is True
    assert Results(path, "another tree", FAULTS).get(FAULT.name, "mirror") is None
    changed = FAULT._replace(new=FAULT.new + " ")
    assert Results(path, "tree", [changed]).get(FAULT.name, "mirror") is None


@pytest.mark.parametrize(
    ("lines", "kinds"),
    [
        ({}, []),
        ({"mirror": False}, ["nobody"]),
        ({"mirror": False, "promise": True}, ["test"]),
        ({"mirror": True, "quick": True, "proof": True}, ["test", "proof"]),
        ({"gate": True, "verify": None, "proof": None}, ["gate"]),
        ({"proof": None}, []),
    ],
)
def test_fault_is_caught_by_these(results: Results, lines: dict[str, bool | None], kinds: list[str]) -> None:
    for detector, caught in lines.items():
        add(results, detector, caught)
    assert results.kinds(FAULT.name) == kinds


def test_report_names_what_nobody_caught(results: Results) -> None:
    add(results, "mirror", False)
    text = reports.table(FAULTS, results)
    assert f"| {FAULT.name} | {FAULT.promise} | {FAULT.file} | mirror | - |" in text
    totals = json.loads(reports.as_json(FAULTS, results))["totals"]
    assert totals["all"] == totals[FAULT.promise]
    assert totals["all"]["nobody"] == totals["all"]["tried"] == 1


def test_every_fault_has_tests_that_look_at_it() -> None:
    assert set(KINDS) == set(DETECTORS)
    for file in {fault.file for fault in FAULTS}:
        assert all((ROOT / path).exists() for path in mirror_of(file)), file
    for promise in {fault.promise for fault in FAULTS}:
        assert all((ROOT / test.partition("::")[0]).exists() for test in promise_tests(promise))


def test_command_refuses_what_it_does_not_know() -> None:
    argv = [sys.executable, "-m", "tests.mutations", "--names", "no-such-fault"]
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "no fault is called no-such-fault" in result.stderr
