"""Killing a proof, who waits for it, or the whole host, at one step of it; watched and struck from outside the host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.lab.labs import CHECKOUT, LAB_PY, Lab
from tests.lab.proving import EVIDENCE, PROGRAM
from tests.lab.steps import Tracker

PROOF, PARENT, HOST = "proof", "parent", "host"
VICTIMS = (PROOF, PARENT, HOST)
_REACHED_S = 180.0


class NotReached(AssertionError):
    """The run ended, or went on for too long, without getting to the step: nothing was tried."""


class Recording:
    """A run's events as they are written, read from outside through its init's root."""

    def __init__(self, lab: Lab, run: str) -> None:
        self.path = Path(f"/proc/{lab.pid()}/root{EVIDENCE}/{run}/events.jsonl")
        self._read = 0

    @property
    def begun(self) -> bool:
        return self._read > 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Whole lines that were not there at the last call."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield json.loads(line)


def begin(lab: Lab, proof: str, run: str, wait: bool) -> subprocess.Popen[str]:
    """Begin a run and come back at once. wait: by a command that waits for its end, as an operator's does."""
    argv = [sys.executable, str(LAB_PY), "exec", lab.name, "--", PROGRAM, "run", proof, "--run", run]
    return subprocess.Popen(
        argv if wait else [*argv, "--no-wait"], cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def strike(lab: Lab, proof: str, run: str, step: str, more: int, victim: str) -> None:
    """Begin `run`, and SIGKILL the victim when it has got to the step and `more` events into it (or to the next).

    Raises:
        NotReached: it never got there.
    """
    recording = Recording(lab, run)
    starter = begin(lab, proof, run, wait=victim == PARENT)
    victims = [_outermost(lab)] if victim == HOST else []
    at_step = _wait_for_step(recording, Tracker(proof), step, more)
    deadline = time.monotonic() + _REACHED_S
    while not next(at_step):
        if not victims and victim == PROOF and recording.begun:
            victims = _pids(run, victim)
        if time.monotonic() > deadline:
            raise NotReached(f"{proof} did not get to {step!r} in {_REACHED_S:.0f} s")
        time.sleep(0.001)
    for pid in victims or _pids(run, victim):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if starter.stdout and victim == PARENT:
        starter.stdout.close()  # nobody reads what the proof still says
    elif victim == HOST:
        lab.kill()
    starter.wait(timeout=60)
    if starter.stdout:
        starter.stdout.close()


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
                if scope is None:
                    raise NotReached(f"{step!r} is no step of this run: it came to {event['data']['verdict']} without")
                due = True
            if due:
                break
        yield due


def _outermost(lab: Lab) -> int:
    """The process that all of a lab hang on: its power."""
    pid = lab.pid()
    while (parent := int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])) > 1:
        pid = parent
    return pid


def _pids(run: str, victim: str) -> list[int]:
    """The proof's main process; or whoever waits for it: the command, the shell that it was typed in, systemd-run."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            words = Path(entry.path, "cmdline").read_bytes().decode(errors="replace").split("\0")
            waits = (words[0] == "systemd-run" and f"--run={run}" in words) or ("run" in words and run in words)
            works = "inside" in words and f"--run={run}" in words and not waits
            if waits if victim == PARENT else works:
                found.append(int(entry.name))
    return found


def ended(lab: Lab, run: str, timeout_s: float = 120) -> None:
    """Wait until nothing of a run is left: no unit, no timer, no lease."""
    units = "systemctl list-units --all --plain --no-legend 'hybrid-proof-*'"
    left = f"{units}; ls -d /run/hybrid-proofs/{run} 2>/dev/null"
    script = f'while [ -n "$({left})" ]; do sleep 0.05; done'
    done = lab.root("timeout", f"{timeout_s:.0f}", "sh", "-c", script, check=False, timeout=timeout_s + 30)
    told = "" if done.returncode == 0 else lab.root("sh", "-c", left, check=False).stdout
    assert done.returncode == 0, f"the end of run {run}: not within {timeout_s:.0f} s:\n{told}"
