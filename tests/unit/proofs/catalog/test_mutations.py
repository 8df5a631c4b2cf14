"""The texts of the engine that mutants replace: each is there once, and each mutation is used by one mutant."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from proofs.catalog import PROOFS
from proofs.catalog.mutations import MUTATIONS, RELEASE_CHECK

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("name", MUTATIONS)
def test_text_occurs_once(name: str) -> None:
    mutation = MUTATIONS[name]
    assert (ROOT / "hybrid_engine" / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.new != mutation.old


def test_check_that_mutants_of_the_gate_take_out_occurs_once() -> None:
    assert (ROOT / "hybrid_engine" / "live_gate.py").read_text().count(RELEASE_CHECK[0]) == 1


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutant_uses_only_names_that_are_there(name: str) -> None:
    """A mutant that ends with a NameError shows nothing of the guard that it takes away."""
    mutation = MUTATIONS[name]
    path = ROOT / "hybrid_engine" / mutation.file
    argv = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select=E9,F821,F823",
        "--stdin-filename",
        str(path),
        "-",
    ]
    mutated = path.read_text().replace(mutation.old, mutation.new)
    process = subprocess.run(argv, input=mutated, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout


def test_each_mutation_is_used_by_its_mutant() -> None:
    mutants = {f"{proof.name}/{mutant.name}" for proof in PROOFS.values() for mutant in proof.mutants}
    assert MUTATIONS.keys() <= mutants
    catalog = (ROOT / "proofs" / "catalog").glob("*.py")
    used = {name for path in catalog for name in re.findall(r'patched\("([^"]+)", ', path.read_text())}
    assert used == MUTATIONS.keys()
