"""Killing a proof, who waits for it, or the whole host, at one step of it; watched and struck from outside the host."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from proofs.catalog import PROOFS
from tests.lab.labs import CHECKOUT, LAB_PY, Lab
from tests.lab.proof_runs import EVIDENCE, PROGRAM
from tests.lab.stand_in import stand_in
from tests.lab.steps import Tracker
from tests.support import programs

PROOF, PARENT, HOST = "main", "parent", "host"
VICTIMS = (PROOF, PARENT, HOST)
_ENDED_S = 180.0  # for a command that waits for a run that was killed


class NotReached(AssertionError):
    """The run ended, or went on for too long, without getting to the step: nothing was tried."""


class Recording:
    """A run's events as they are written, read from outside through its init's root."""

    def __init__(self, lab: Lab, run: str) -> None:
        self.run = run
        self._path = Path(f"/proc/{lab.pid()}/root{EVIDENCE}/{run}/events.jsonl")
        self._read = 0

    @property
    def begun(self) -> bool:
        return self._read > 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Whole lines that were not there at the last call."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield json.loads(line)


def begin(lab: Lab, proof: str, run: str, wait: bool) -> subprocess.Popen[str]:
    """Begin a run and come back at once. wait: by a command that waits for its end, as an operator's does."""
    if PROOFS[proof].in_place:
        stand_in(lab)
    argv = [sys.executable, str(LAB_PY), "exec", lab.name, "--", PROGRAM, "run", proof, "--run", run]
    argv += [] if wait else ["--no-wait"]
    return programs.start(
        argv, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def strike(lab: Lab, proof: str, step: str, more: int, victim: str) -> str:
    """Begin a run, and SIGKILL the victim when it has got to the step and `more` events into it (or to the next).

    Returns the run's id.

    Raises:
        NotReached: it never got there.
    """
    recording = Recording(lab, f"k{random.randrange(16**8):08x}")
    starter = begin(lab, proof, recording.run, victim == PARENT)
    victims = [_outermost(lab)] if victim == HOST else []
    at_step = _wait_for_step(recording, Tracker(proof), step, more)
    within_s = PROOFS[proof].cap_s  # its lease ends it after that
    deadline = time.monotonic() + within_s
    while not next(at_step):
        if not victims and victim == PROOF and recording.begun:
            victims = _workers(recording.run)
        if time.monotonic() > deadline:
            raise NotReached(f"{proof} did not get to {step!r} in {within_s:.0f} s")
        time.sleep(0.01)
    if victim == PARENT:
        victims = _waiting(recording.run)
    for pid in victims or _workers(recording.run):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if victim == HOST:
        lab.kill()
    if starter.stdout and victim == PARENT:
        starter.stdout.close()  # nobody reads what the proof still says
        starter.wait(timeout=60)
    else:
        starter.communicate(timeout=_ENDED_S)
    return recording.run


def _wait_for_step(recording: Recording, tracker: Tracker, step: str, more: int) -> Iterator[bool]:
    """True once it is time to strike; False as long as it is not."""
    scope, left = None, more
    while True:
        due = False
        for event in recording.new():
            began, here = tracker.feed(event), event["scope"].removesuffix("/undo")
            if began == step:
                scope = here
                due = left == 0
            elif scope == here:
                left -= 1
                due = left <= 0 or began is not None
            if event["kind"] == "verdict" and not due:  # the last there is
                verdict, due = event["data"]["verdict"], True
                if scope is None and verdict != "INCONCLUSIVE":
                    raise NotReached(f"{step!r} is no step of this run: it came to {verdict} without")
                if scope is None:  # this machine was too busy for it, or cannot show it
                    print(f"struck at its end, before {step!r}: {event['data']['reason']}")
            if due:
                break
        yield due


def _outermost(lab: Lab) -> int:
    """The process that all of a lab hang on: its power."""
    pid = lab.pid()
    while (parent := int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])) > 1:
        pid = parent
    return pid


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in os.scandir("/proc"):
        with suppress(OSError):
            if entry.name.isdigit():
                yield int(entry.name), Path(entry.path, "cmdline").read_bytes().decode(errors="replace").split("\0")


def _workers(run: str) -> list[int]:
    """The proof's main process."""
    return [
        pid
        for pid, words in _processes()
        if "inside" in words and f"--run={run}" in words and words[0] != "systemd-run"
    ]


def _waiting(run: str) -> list[int]:
    """Who waits for it: the command, the shell that it was typed in, systemd-run."""
    return [
        pid
        for pid, words in _processes()
        if (words[0] == "systemd-run" and f"--run={run}" in words) or ("run" in words and run in words)
    ]


def ended(lab: Lab, run: str, timeout_s: float = 120) -> None:
    """Wait until nothing of a run is left: no unit, no timer, no lease."""
    units = "systemctl list-units --all --plain --no-legend 'hybrid-proof-*'"
    left = f"{units}; ls -d /run/hybrid-proofs/{run} 2>/dev/null"
    script = f'while [ -n "$({left})" ]; do sleep 0.2; done'
    process = lab.root("timeout", f"{timeout_s:.0f}", "sh", "-c", script, check=False, timeout=timeout_s + 30)
    output = "" if process.returncode == 0 else lab.root("sh", "-c", left, check=False).stdout
    assert process.returncode == 0, f"the end of run {run}: not within {timeout_s:.0f} s:\n{output}"
