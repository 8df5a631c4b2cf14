"""From the command line to a soak: refused in one line, or run in a unit that undoes it however it ends."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from proofs.evidence import recorder
from proofs.evidence.recorder import Recorder
from proofs.experiment.case import Case, Deployed
from proofs.host.shell import Host
from proofs.restore import lease
from proofs.runner import run
from proofs.runner.prerequisites import prerequisites
from proofs.soak.case import NAME, PROOF, Soak
from proofs.soak.observer import ABORT_FILE
from proofs.soak.options import Asked

_LATER_S = 300.0  # how long after its time a soak may take to end before the lease ends it


def refused(unit: str) -> list[str]:
    """Why a soak cannot be run on this host now; nothing is touched by asking."""
    with tempfile.TemporaryDirectory() as scratch:
        host = Host(Recorder(Path(scratch) / recorder.EVENTS))
        found = [item for item in prerequisites(host, unit) if not item.ok]
    reasons = [f"{item.name}: {item.found}: {item.remedy}" for item in found]
    if ABORT_FILE.exists():
        reasons.append(f"{ABORT_FILE} is there, by which the operator ends soaks: remove it first")
    return reasons


def by_hand(asked: Asked, unit: str, git: str) -> int:
    """Soak, and wait for it; Ctrl-C stops it cleanly."""
    if complained(unit):
        return 2
    run_id = run.new_run_id()
    words = [NAME, "--inside", *asked.words(), f"--git={git}", f"--unit={unit}"]
    return run.in_a_unit(run_id, f"soak for {asked.seconds:g} s", words, True)


def complained(unit: str) -> bool:
    reasons = refused(unit)
    for reason in reasons:
        print(f"hybrid-proofs: refused: {reason}", file=sys.stderr)
    return bool(reasons)


def as_installed(unit: str) -> int:
    """Start the host's own unit of soaks, as it is installed, and print the run's id: `follow` tells how it goes."""
    if complained(unit):
        return 2
    started = subprocess.run(["systemctl", "start", lease.SOAK_UNIT], capture_output=True, text=True, check=False)
    show = ["systemctl", "show", lease.SOAK_UNIT, "--property=InvocationID", "--value"]
    invocation = subprocess.run(show, capture_output=True, text=True, check=False).stdout.strip()
    if started.returncode != 0 or not invocation:
        said = (started.stderr or "it has no invocation").strip()
        print(f"hybrid-proofs: {lease.SOAK_UNIT} did not start: {said}", file=sys.stderr)
        return 2
    print(f"{NAME}-{invocation}")
    return 0


def inside(asked: Asked, unit: str, run_id: str, git: str) -> int:
    """The soak itself. run_id: "" in the host's own unit of soaks, whose invocation names the run."""
    if not run_id:
        run_id = f"{NAME}-{os.environ.get('INVOCATION_ID', '')}"
        if lease.unit_of(run_id) != lease.SOAK_UNIT:
            print(f"hybrid-proofs: --inside is for {lease.SOAK_UNIT} to say", file=sys.stderr)
            return 2
        if complained(unit):
            return 2
        sys.stdout = _Both(sys.stdout, run.EVIDENCE_ROOT / run_id / run.PROGRESS)
    soaks: list[Soak] = []

    def cases(deployed: Deployed) -> list[Case]:
        soaks.append(Soak(deployed, asked, run.speaker))
        return [*soaks]

    proof = replace(PROOF, seconds=asked.seconds, cases=cases)
    code = run.inside([NAME], unit, run_id, git, asked.seconds + _LATER_S, {NAME: proof})
    return 130 if any(soak.interrupted for soak in soaks) else code


class _Both(io.TextIOBase):
    """What is printed goes into a file as well, which is what `follow` reads; the journal has it either way."""

    def __init__(self, stream: TextIO, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._streams: list[TextIO] = [stream, path.open("a")]

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()
