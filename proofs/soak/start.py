"""Starts a soak: refuses it in one line, or runs it in a unit that undoes it however it ends."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from proofs.host.shell import unrecorded_host
from proofs.restore import lease
from proofs.runner import run
from proofs.runner.prerequisites import prerequisites
from proofs.soak.criteria import NAME, PROOF
from proofs.soak.observer import ABORT_FILE
from proofs.soak.options import Options
from proofs.soak.run import Soak

_GRACE_S = 300.0  # how long a soak may take to end, after its time is over, before the lease ends it


def by_hand(options: Options, unit: str, git: str) -> int:
    """Run a soak in a transient unit and wait for its end; Ctrl-C stops it cleanly."""
    if _refused(unit):
        return 2
    words = [NAME, "--inside", *options.words(), f"--git={git}", f"--unit={unit}"]
    return run.in_a_unit(run.new_run_id(), f"soak for {options.seconds:g} s", words, True)


def as_installed(unit: str) -> int:
    """Start hybrid-soak.service, with the options it was installed with, and print the run's id, for `follow`."""
    if _refused(unit):
        return 2
    started = subprocess.run(["systemctl", "start", lease.SOAK_UNIT], capture_output=True, text=True, check=False)
    show = ["systemctl", "show", lease.SOAK_UNIT, "--property=InvocationID", "--value"]
    invocation = subprocess.run(show, capture_output=True, text=True, check=False).stdout.strip()
    if started.returncode != 0 or not invocation:
        reason = (started.stderr or "it has no invocation").strip()
        print(f"hybrid-proofs: {lease.SOAK_UNIT} did not start: {reason}", file=sys.stderr)
        return 2
    print(f"{NAME}-{invocation}")
    return 0


def inside(options: Options, unit: str, run_id: str, git: str) -> int:
    """What the unit runs: the soak. run_id: "" in hybrid-soak.service, whose invocation is part of the run's id."""
    if not run_id:
        run_id = f"{NAME}-{os.environ.get('INVOCATION_ID', '')}"
        if lease.unit_of(run_id) != lease.SOAK_UNIT:
            print(f"hybrid-proofs: --inside is for {lease.SOAK_UNIT} alone; leave it out", file=sys.stderr)
            return 2
        if _refused(unit):
            return 2
        sys.stdout = _Tee(sys.stdout, run.EVIDENCE_ROOT / run_id / run.PROGRESS)
    soak, proof = Soak(options), replace(PROOF, seconds=options.seconds)
    code = run.inside([proof], unit, run_id, git, options.seconds + _GRACE_S, soak.run)
    return 130 if soak.interrupted else code


def _refused(unit: str) -> bool:
    """Whether this host cannot be soaked now, with a line on stderr for each reason. Changes nothing."""
    with unrecorded_host() as host:
        failed = [item for item in prerequisites(host, unit) if not item.ok]
    reasons = [f"{item.name}: {item.found}: {item.remedy}" for item in failed]
    if ABORT_FILE.exists():
        reasons.append(f"{ABORT_FILE} exists, with which the operator ends soaks: remove it first")
    for reason in reasons:
        print(f"hybrid-proofs: refused: {reason}", file=sys.stderr)
    return bool(reasons)


class _Tee(io.TextIOBase):
    """Writes to the journal and to a file, which `follow` reads."""

    def __init__(self, stream: TextIO, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._streams = (stream, path.open("a"))

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()
