"""What may catch a fault, in order of cost: the quick tests, the deploy's gate, verify, the proofs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.guarantees import PROMISES, held
from tests.mutations.fault import Fault
from tests.mutations.scratch import Copy, Output
from tests.support.process import ROOT

DETECTORS = ("mirror", "promise", "quick", "gate", "verify", "proof", "lab")
ON_HOST = ("gate", "verify", "proof")
# What says by whom a fault was caught, in the order in which it is looked up.
KINDS = {**dict.fromkeys(("mirror", "promise", "quick", "lab"), "test"), **{each: each for each in ON_HOST}}
_TIMEOUT_S = {"mirror": 300, "promise": 600, "quick": 1800, "gate": 600, "verify": 300, "proof": 900, "lab": 1800}
# Tests of the table itself: they fail in every copy with a fault.
_OWN_TESTS = "tests/unit/repository/test_mutations.py"
_PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider")


class Outcome(NamedTuple):
    """`caught`: whether the detector found the fault; None: it could not look. `by`: what found it, or why not."""

    caught: bool | None
    by: str


_held = cache(held)  # it reads every test


def mirror_of(file: str) -> list[str]:
    """The unit tests that mirror a file; those of its folder, but not of a whole product, where none has its name."""
    path = Path(file)
    if path.suffix != ".py" or path.parts[0] == "roles":
        return ["tests/unit/roles"]
    base = ROOT / "tests" / "unit"
    # tests/unit/plugins has no folder for its modules and utilities.
    folder = base / "plugins" if path.parts[0] == "plugins" else base / path.parent
    named = sorted(folder.glob(f"test_{path.stem}.py")) + sorted(folder.glob(f"test_{path.stem}_*.py"))
    chosen = named or ([folder] if len(path.parts) > 2 else [])
    return [str(test.relative_to(ROOT)) for test in chosen if test.exists()]


def promise_tests(promise: str, *, lab: bool = False) -> list[str]:
    """The tests that hold a promise: those that need no lab, or those that do."""
    return [f"tests/{test}" for test in _held().get(promise, []) if test.startswith("lab/") is lab]


def promise_proofs(promise: str) -> tuple[str, ...]:
    """The proofs that show a promise on a host."""
    return PROMISES[promise].proofs


def run_tests(copy: Copy, detector: str, fault: Fault, timeout_s: float | None = None) -> Outcome:
    """Run a part of the tests, up to the first that fails. timeout_s: after which they count as endless."""
    marks, workers = "not lab and not long", "0"
    if detector == "mirror":
        chosen = mirror_of(fault.file)
    elif detector == "promise":
        chosen = promise_tests(fault.promise)
    elif detector == "lab":
        chosen, marks = promise_tests(fault.promise, lab=True), "not long"
    else:
        chosen, workers = ["tests"], "2"
    if not chosen:
        return Outcome(False, "no such test")
    argv = [*_PYTEST, f"--ignore={_OWN_TESTS}", *chosen, "-m", marks, "-n", workers]
    return _judge_tests(copy.run(argv, timeout_s or _TIMEOUT_S[detector]))


def _judge_tests(output: Output) -> Outcome:
    if output.rc is None:
        return Outcome(True, "a test that does not end")
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", output.text, re.M)
    if output.rc == 0 or output.rc == 5:  # 5: every test of the choice needs a lab
        return Outcome(False, "")
    if output.rc == 1 or failed:
        return Outcome(True, failed[0] if failed else "a test")
    return Outcome(None, f"pytest ended with {output.rc}: {output.text.strip()[-200:]}")


class LabHost:
    """A disposable host, on which a copy is deployed, verified and proven."""

    def __init__(self, name: str) -> None:
        self.name = name

    def up(self, copy: Copy) -> None:
        """Boot it with the copy deployed. Raises RuntimeError."""
        for argv in (self._lab_py("up"), self._play("deploy")):
            output = copy.run(argv, 900, LAB=self.name)
            if output.rc != 0:
                raise RuntimeError(f"lab {self.name}: {output.text.strip()[-400:]}")

    def down(self) -> None:
        """Remove it; not from a copy, whose programs are ended when the run is."""
        subprocess.run(self._lab_py("down"), cwd=ROOT, stdin=subprocess.DEVNULL, check=True, start_new_session=True)

    def _lab_py(self, verb: str) -> list[str]:
        return [sys.executable, "roles/lab_nuc/files/lab.py", verb, self.name]

    def _play(self, playbook: str, *words: str) -> list[str]:
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return [program, "-i", "inventory/lab", *words, f"playbooks/{playbook}.yml"]

    def gate(self, copy: Copy) -> Outcome:
        """Deploy the copy: its gate catches what it refuses."""
        output = copy.run(self._play("deploy"), _TIMEOUT_S["gate"], LAB=self.name)
        return Outcome(output.rc != 0, _last_error(output) if output.rc != 0 else "")

    def verify(self, copy: Copy) -> Outcome:
        output = copy.run(self._play("verify"), _TIMEOUT_S["verify"], LAB=self.name)
        failed = re.findall(r"FAILED (\S+)", output.text)
        return Outcome(output.rc != 0, (failed[0] if failed else _last_error(output)) if output.rc != 0 else "")

    def prove(self, copy: Copy, names: Sequence[str]) -> Outcome:
        """Run proofs; one that says FAIL catches the fault. What others say is reported."""
        words = ("-e", json.dumps({"proof_names": list(names)})) if names else ()
        output = copy.run(self._play("prove", *words), _TIMEOUT_S["proof"] * (1 if names else 3), LAB=self.name)
        verdicts = dict(_verdicts(copy))
        if not verdicts:
            return Outcome(None, _last_error(output) or "no statement")
        said = ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items() if verdict != "PASS")
        return Outcome("FAIL" in verdicts.values(), said)


def _verdicts(copy: Copy) -> Iterator[tuple[str, str]]:
    """The verdict of each proof in the newest statement; the bundles are removed, so that none is read twice."""
    folder = copy.place / "evidence"
    statements = sorted(folder.glob("*/*/statement.json"), key=lambda path: path.stat().st_mtime)
    for proof in json.loads(statements[-1].read_text())["predicate"]["proofs"] if statements else []:
        yield str(proof["name"]), str(proof["verdict"])
    for path in statements:
        path.rename(path.with_suffix(".read"))


def _last_error(output: Output) -> str:
    """What a playbook's end says, in one line."""
    if output.rc is None:
        return "it took too long"
    found = re.findall(r"(?:msg: |\"msg\": |fatal: )(.+)", output.text)
    lines = found or output.text.strip().splitlines() or [""]
    return str(lines[-1]).strip()[:200]
