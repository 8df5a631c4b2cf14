"""rollback: each drop-in is what its behaviour hangs on: out of force it is gone, put back it is there, to the byte."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from proofs.catalog._steady import steady
from proofs.evidence.redaction import MARK
from proofs.experiment import sandbox_probe
from proofs.experiment.case import Case, Deployed, Mutant, NotSteady, Proof
from proofs.experiment.measurements import Figures
from proofs.experiment.subject import Copy, Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.shell import read_text
from proofs.verdict import Check, Json, Result

_UP_S = 15.0
_NOTHING = Path("/dev/null")
# What each drop-in has to change in the running process, by name of what `behaviour` reads.
CHANGES = {
    "20-resources.conf": ("nice", "open files"),
    "30-restart.conf": ("after SIGKILL",),
    "40-hardening.conf": ("NoNewPrivs", "CapBnd", "Seccomp_filters"),
    "50-watchdog.conf": ("WATCHDOG_USEC",),
}


def behaviour(subject: Subject, drop_in: str) -> dict[str, Json]:
    """What the drop-in is there to set, read off the running process; of 30-restart.conf, off what comes of its end."""
    pid = subject.unit.state().pid
    if drop_in == "20-resources.conf":
        return {
            "nice": os.getpriority(os.PRIO_PROCESS, pid),
            "open files": resource.prlimit(pid, resource.RLIMIT_NOFILE)[0],
        }
    if drop_in == "40-hardening.conf":
        return {key: sandbox_probe.status(pid).get(key) for key in CHANGES[drop_in]}
    if drop_in == "50-watchdog.conf":
        found = re.search(r"(?:^|\0)WATCHDOG_USEC=(\d+)", read_text(f"/proc/{pid}/environ"))
        return {"WATCHDOG_USEC": found[1] if found else None}
    subject.host.recorder.intent(f"kill -KILL {pid}", scope=subject.host.scope)
    os.kill(pid, signal.SIGKILL)
    return {"after SIGKILL": subject.host.poll("what comes after", 5, lambda: _after_kill(subject, pid), every=0.05)}


def _after_kill(subject: Subject, pid: int) -> str:
    """ "restarted" (or about to be), "failed"; "" while it cannot be told."""
    now = subject.unit.state()
    if now.sub == "auto-restart" or (now.running and now.pid != pid):
        return "restarted"
    return "failed" if now.active == "failed" else ""


class OutOfForce(Case):
    """One drop-in masked from /run, and put back."""

    def __init__(self, deployed: Deployed, drop_in: str) -> None:
        super().__init__(deployed)
        self.name, self.fault = drop_in, f"{drop_in} masked from /run, and the unit restarted"
        self._before: dict[str, Json] = {}

    def steady(self, subject: Subject) -> None:
        if not subject.store.last_tick():
            steady(subject)
        if self.name not in self._in_force(subject):
            raise NotSteady(f"{self.name} is not in force")
        self._cat = subject.unit.cat()
        self._before = self._look(subject)
        self._invocation = subject.unit.state().invocation

    def _look(self, subject: Subject) -> dict[str, Json]:
        """On a process of its own: a drop-in binds those that are started after it."""
        subject.restart()
        subject.host.wait_for("the engine running", _UP_S, lambda: subject.unit.state().running, every=0.05)
        return behaviour(subject, self.name)

    def _in_force(self, subject: Subject) -> list[str]:
        """Names of what systemd reads for the unit; a mask stands in its list too, as a link to /dev/null."""
        return [path.name for path in subject.unit.files() if path.resolve() != _NOTHING]

    def inject(self, subject: Subject) -> None:
        subject.mask(self.name)
        self._masked = self._look(subject)

    def witness(self, subject: Subject) -> Json:
        """systemd no longer reads it, and the process is another than before."""
        now = self._in_force(subject)
        invocation = subject.unit.state().invocation
        if self.name in now or invocation == self._invocation:
            return None
        return {"in_force": now, "invocation": invocation}

    def witnessed(self, seen: Figures) -> bool:
        in_force = seen.texts("in_force")
        return bool(seen.invocation("invocation")) and bool(in_force) and self.name not in in_force

    def measure(self, subject: Subject) -> dict[str, Json]:
        masked = subject.unit.cat()
        subject.unmask(self.name)
        after = subject.unit.cat()
        again = self._look(subject)
        return {
            "before": self._before, "masked": self._masked, "after": again, "n": 1,
            "cat_sha256": [hashlib.sha256(text.encode()).hexdigest() for text in (self._cat, masked, after)],
        }  # fmt: skip

    def traced(self, measured: Figures, trace: Trace) -> Mapping[str, Json | Between]:
        shown = trace.texts("systemctl", "cat")
        if any(MARK in text for text in shown):
            return {}  # what was left out of the recording is in the digests
        return {"cat_sha256": [hashlib.sha256(text.encode()).hexdigest() for text in shown]}

    def judge(self, measured: Figures) -> Sequence[Check]:
        wanted = list(CHANGES[self.name])
        looks = (measured.below(when) for when in ("before", "masked", "after"))
        before, masked, after = ({key: look.of(key) for key in wanted} for look in looks)
        changed = [key for key in wanted if before[key] != masked[key]]
        cats = measured.texts("cat_sha256")
        equal, between = cats[0] == cats[2], cats[0] != cats[1]
        cat = f"{cats[0][:12]}, {cats[1][:12]}, {cats[2][:12]}"
        return (
            Check("changed out of force", _told(before, masked), ", ".join(wanted), changed == wanted, guard=True),
            Check("put back, as before", _told(before, after), "no difference", after == before),
            Check("systemctl cat (SHA-256)", cat, "another, then equal to the byte", equal and between),
        )


def _told(one: dict[str, Json], other: dict[str, Json]) -> str:
    return "; ".join(f"{key}: {one[key]} -> {other.get(key)}" for key in one if one[key] != other.get(key)) or "nothing"


def _empty(drop_in: str) -> Mutant:
    def make(copy: Copy) -> None:
        copy.instead[drop_in] = "# nothing\n"

    return Mutant(
        f"empty-{drop_in.partition('-')[0]}", f"{drop_in} with nothing in it", make,
        lambda deployed: [OutOfForce(deployed, drop_in)],
    )  # fmt: skip


def headline(results: Sequence[Result]) -> str:
    held = [result.case.removesuffix(".conf") for result in results if result.verdict == "PASS"]
    return f"{len(held)} of {len(CHANGES)} taken out and put back, to the byte: {', '.join(held)}"


PROOF = Proof(
    name="rollback",
    claim="a drop-in taken out of force takes its behaviour with it, and put back brings it back, to the byte",
    bound="; ".join(f"{name}: {', '.join(keys)} change" for name, keys in CHANGES.items())
    + "; systemctl cat and behaviour afterwards equal",
    fault="each drop-in masked by /run/systemd/system.control/UNIT.d/NAME -> /dev/null",
    seconds=20,
    cases=lambda deployed: [OutOfForce(deployed, drop_in) for drop_in in CHANGES],
    mutants=[_empty("40-hardening.conf"), _empty("50-watchdog.conf")],
    headline=headline,
)
