"""The table of faults: each applies to its file, is valid, and every promise has its number of them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.guarantees import PROMISES
from tests.mutations.fault import Fault
from tests.mutations.table import FAULTS, FEWER, LEAST
from tests.support.process import ROOT

# What is not the product: a fault there would be one of its tests.
PRODUCT = ("hybrid_engine/", "proofs/", "plugins/", "roles/", "templates/", "playbooks/")


def mutated(fault: Fault) -> str:
    return (ROOT / fault.file).read_text().replace(fault.old, fault.new)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_applies_once(fault: Fault) -> None:
    assert fault.file.startswith(PRODUCT)
    count = (ROOT / fault.file).read_text().count(fault.old)
    assert count == 1, f"{fault.file} has the old text {count} times: write the fault anew, with the text as it is now"
    assert fault.new != fault.old


def test_mutated_python_has_no_undefined_name(tmp_path: Path) -> None:
    paths = []
    for fault in FAULTS:
        if fault.file.endswith(".py"):
            path = tmp_path / f"{fault.name}.py"
            path.write_text(mutated(fault))
            compile(path.read_text(), fault.name, "exec")
            paths.append(path)
    ruff = [str(Path(sys.executable).with_name("ruff")), "check", "--isolated", "--select=F821,F823", "--quiet"]
    result = subprocess.run([*ruff, *map(str, paths)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_mutated_yaml_is_valid() -> None:
    for fault in FAULTS:
        if fault.file.endswith(".yml"):
            yaml.safe_load(mutated(fault))


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(fault.name for fault in FAULTS).items() if count > 1] == []


def test_every_promise_has_its_number_of_faults() -> None:
    counts = Counter(fault.promise for fault in FAULTS)
    assert counts.keys() - PROMISES.keys() == set()
    few = {name: counts[name] for name in PROMISES if counts[name] < LEAST and name not in FEWER}
    assert few == {}, "a promise needs so many faults, or FEWER says why not"


def test_what_no_host_shows_says_why() -> None:
    assert all(len(fault.unseen) > 15 for fault in FAULTS if fault.unseen)
    seen = sum(not fault.unseen for fault in FAULTS)
    assert seen >= len(FAULTS) / 2
