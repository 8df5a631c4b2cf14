"""A proof, whoever waits for it, or the whole host is killed at any step of it; the host is then as it was before.

`make test` takes one random step and victim of every proof, `make test-long` all of them. PROOF_SEED, which is printed
at the head of every run of the tests, draws the same again: the step and its victim, how far into the step it is
struck, and whether the operator's engine runs at that time. A part of the whole: make test-long ONLY='stall and host'.

What dies with it: with the proof's main process nothing, its ExecStopPost= puts the host back. With its parent nothing
either: the parent of a proof is systemd, whose death is the host's; who waits for it (the command, its shell and
systemd-run, as when a connection breaks) is not missed, and the run goes on to its end.
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from proofs.catalog import PROOFS
from tests.lab.deployment import UNIT
from tests.lab.kills import HOST, PARENT, PROOF, VICTIMS, ended, strike
from tests.lab.labs import Lab, MakeLab
from tests.lab.proof_runs import events, files, picture, recorded_verdict, rows
from tests.lab.steps import UNDO, steps

pytestmark = pytest.mark.lab
_MOST = 8  # events into a step; the next step ends it at the latest
_UNDO = range(0, 20, 2)  # an undo is struck at each of these


@dataclass(frozen=True)
class Cell:
    """One attempt: what is killed, and when."""

    proof: str
    victim: str
    step: str
    more: int = 0

    @property
    def id(self) -> str:
        words = f"{self.proof}-{self.victim}-{self.step}" + (f"-{self.more}" if self.step == UNDO else "")
        return re.sub(r"[^A-Za-z0-9.-]+", "-", words)


def every_cell() -> list[Cell]:
    result = []
    for name, proof in PROOFS.items():
        for step in steps(proof):
            depths = _UNDO if step == UNDO else (0,)
            result += [Cell(name, victim, step, more) for more in depths for victim in VICTIMS]
    return result


class Ground:
    """A host with engine and proofs on it, made anew after an attempt that left it in another state."""

    def __init__(self, make_lab: MakeLab) -> None:
        self._make_lab = make_lab
        self._lab: Lab | None = None
        self._clean: dict[str, str] = {}

    def clean(self) -> tuple[Lab, dict[str, str]]:
        """The host, and its picture with the engine running."""
        if self._lab is None or picture(self._lab) != self._clean:
            if self._lab is not None:
                self._lab.down()
            self._lab = self._make_lab(proofs=True)
            self._clean = picture(self._lab)
        return self._lab, self._clean


@pytest.fixture(scope="session")
def ground(make_lab: MakeLab) -> Ground:
    return Ground(make_lab)


def attempt(ground: Ground, cell: Cell, folder: Path, to_the_end: bool) -> None:
    """Strike, and compare the host with what it was. to_the_end: see a run that goes on to its end."""
    seed = os.environ["PROOF_SEED"]
    draw = random.Random(f"{seed} {cell.id}")
    more, runs = cell.more or (0 if cell.step == UNDO else draw.randint(0, _MOST)), draw.random() < 0.7
    runs |= PROOFS[cell.proof].in_place  # which makes no copy of what does not run, but runs it
    print(f"PROOF_SEED={seed}: {cell.proof}: {cell.victim} killed {more} events into {cell.step!r}, {runs=}")
    lab, clean = ground.clean()
    if not runs:
        lab.root("systemctl", "stop", UNIT)
    try:
        before, bits, stored = picture(lab), "" if runs else files(lab), rows(lab) if runs else None
        assert before == {**clean, "active": "active\n" if runs else "inactive\n", "units": before["units"]}
        run = strike(lab, cell.proof, cell.step, more, cell.victim)
        if cell.victim == HOST:
            lab.boot()  # which waits until systemd has nothing more to do
        elif cell.victim == PARENT and not to_the_end:
            lab.root("systemctl", "stop", f"hybrid-proof-{run}.service")
        ended(lab, run)
        after = picture(lab)
        if cell.victim == HOST and not runs and not pending(lab, run):
            before = {**clean, "units": after["units"]}  # with nothing to undo, a boot starts what is enabled
        assert after == before
        if stored:
            again = rows(lab, stored["tops"])
            assert again == stored
            assert again["sound"] == ["ok", []]
            assert again["modes"] == ["SYNTHETIC"]
        elif cell.victim != HOST:  # at a boot an enabled engine runs until it is seen that it had been stopped
            assert files(lab) == bits
        judge(lab, run, cell, folder, to_the_end)
    finally:
        if not runs:
            lab.root("systemctl", "start", UNIT, check=False)


def pending(lab: Lab, run: str) -> bool:
    """Whether a boot found a lease to undo."""
    return any(event["kind"] == "undone" and event["data"]["by"] == "boot" for event in events(lab, run))


def judge(lab: Lab, run: str, cell: Cell, folder: Path, to_the_end: bool) -> None:
    """What the recording says of it: who undid it, that all is as it was, and no verdict that was not reached."""
    verdict, seen = recorded_verdict(lab, run, folder), events(lab, run)
    undone = [event["data"] for event in seen if event["kind"] == "undone"]
    for report in undone:
        assert (report["restored"], report["problems"]) == (True, [])
    itself, other = "the proof itself", {PROOF: "ExecStopPost", HOST: "boot", PARENT: "the proof itself"}[cell.victim]
    # By itself it was undone before the strike: some events into a step may be in the undo that follows it.
    assert {report["by"] for report in undone} <= {itself, other}
    assert undone
    if cell.victim == PARENT and to_the_end:  # to its own end: which verdict that was is for the tests of the proofs
        assert [event for event in seen if event["kind"] == "run ended"]
    elif not any(event["kind"] == "verdict" for event in seen):
        assert verdict == "ERROR"


def some(name: str) -> Cell:
    """A random step of the proof, and who dies at it."""
    draw = random.Random(f"{os.environ.get('PROOF_SEED')} {name}")
    step = draw.choice(steps(PROOFS[name]))
    return Cell(name, draw.choice(VICTIMS), step, draw.choice(_UNDO) if step == UNDO else 0)


@pytest.mark.holds("RESTORED")
@pytest.mark.parametrize("name", PROOFS)
def test_killed_at_a_random_step(ground: Ground, tmp_path: Path, name: str) -> None:
    attempt(ground, some(name), tmp_path, to_the_end=False)


@pytest.mark.long
@pytest.mark.parametrize("cell", every_cell(), ids=lambda cell: str(cell.id))
def test_killed_at_every_step(ground: Ground, tmp_path: Path, cell: Cell) -> None:
    attempt(ground, cell, tmp_path, to_the_end=True)
