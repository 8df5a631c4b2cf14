"""A whole run of the proofs in this process: the real frame on a toy proof, on a host that only answers questions.

What comes of it is a bundle as a host leaves it, with everything in it that a bundle has: a proof of two cases, a
mutant beside it, a big output, a redaction, the undo, and the run's beginning and end.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import PROOFS, REQUIRED
from proofs.evidence import recorder, signature, unit_parts
from proofs.evidence import statement as bundle
from proofs.experiment import subject as faults
from proofs.experiment.case import Case, Deployed, Mutant, Proof
from proofs.experiment.measurements import Figures
from proofs.experiment.subject import Changes, Subject, UnitCopy
from proofs.experiment.trace import Between, Trace
from proofs.host import deployed
from proofs.host.deployed import Live
from proofs.host.shell import Output, Stop
from proofs.restore import lease
from proofs.runner import progress, run, run_proof
from proofs.verdict import Check, Json

Event = dict[str, Any]
UNITS = "/run/systemd/system"
DEPLOYED = {
    "/etc/systemd/system/hybrid-engine.service": "[Service]\nExecStart=/x\nEnvironment=A_TOKEN=hunter2\n",
    "/etc/systemd/system/hybrid-engine.service.d/40-hardening.conf": "[Service]\nNoNewPrivileges=yes\n",
}
AUTHORITY = unit_parts.part("ca_file", "/etc/hybrid-engine/ca.pem", b"an authority")
ENVIRONMENT = unit_parts.part(unit_parts.ENVIRONMENT, "PATH", b"/usr/bin")
PARTS = sorted([*(unit_parts.of_file(path, text.encode()) for path, text in DEPLOYED.items()), AUTHORITY, ENVIRONMENT])
LIVE = Live("a" * 64, "b" * 64, "c" * 32, unit_parts.digest(PARTS), tuple(PARTS))
IN_FORCE: dict[str, dict[str, str]] = {}  # what `systemctl cat` shows of a unit that a proof installed
SHOWN = "ActiveState=active\nSubState=running\nResult=success\nMainPID=1\nRestartUSec=2s\nWatchdogUSec=10s\n"
FACTS = {"hostname": "nuc", "machine_id": LIVE.machine_id, "boot_id": "d", "kernel": "6.1", "os": "Debian"}


class Toy(Case):
    """Measures 1, or 0 where the guard is gone."""

    n_min = 3

    def __init__(self, deployed: Deployed, name: str) -> None:
        super().__init__(deployed)
        self.name, self.fault = name, f"the {name} fault"

    def inject(self, subject: Subject) -> None:
        subject.host.do("systemctl", "kill", "--signal=STOP", subject.unit.name)

    def witness(self, subject: Subject) -> Json:
        return {"state": "T"}

    def measure(self, subject: Subject) -> dict[str, Json]:
        result = subject.host.look("journalctl", "-u", subject.unit.name, "--big").stdout
        return {
            "entries": result.count("entry"),
            "n": 3,
            "value": 0 if subject.mutant else 1,
            "spans": [(1, 2)],
            "seen_s": 0.5,
            "restart_s": self.deployed.restart_s,
        }

    def witnessed(self, seen: Figures) -> bool:
        return seen.text("state") == "T"

    def traced(self, measured: Figures, trace: Trace) -> Mapping[str, Json | Between]:
        return {"entries": trace.text("journalctl", "-u").count("entry")}

    def judge(self, measured: Figures) -> Sequence[Check]:
        return (
            Check("value", measured.count("value"), 1, measured.count("value") == 1, guard=True),
            Check("seen (s)", measured.number("seen_s"), "<= 2", measured.number("seen_s") <= 2),
            Check("span", [tuple(span) for span in measured.all("spans")], "any", len(measured.all("spans")) == 1),
        )


def _cases(deployed: Deployed) -> Sequence[Case]:
    return [Toy(deployed, "first"), Toy(deployed, "second")]


def _no_guard(unit: Changes) -> None:
    unit.directives.append("WatchdogSec=0")
    unit.instead["40-hardening.conf"] = "# nothing\n"
    unit.patch("guard = True", "guard = False")


def toy(name: str) -> Proof:
    mutant = Mutant("no-guard", "the guard is gone", _cases, _no_guard)
    host_word = dict.fromkeys(["witness.state", "n", "value", "spans", "seen_s", "restart_s"], "toys are believed")
    rest = Proof(name, "toys break as told", "value 1", "two of them", 1.0, _cases, [mutant], host_word=host_word)
    return replace(rest, on_copies=("second",)) if name == "toy2" else rest


def answer(argv: tuple[str, ...]) -> Output:
    """What the host says to a command."""
    if "daemon-reload" in argv:  # after an undo: nothing is left of what a proof installed
        IN_FORCE.clear()
    result = {
        "show": SHOWN,
        "cat": output(argv[-1]),
        "--version": "systemd 252\n",
        "check": f"holds {AUTHORITY}\nconfig digest {LIVE.config_digest}\n",
        "--big": "".join(f"entry {n}\n" for n in range(3000)),
        "--container": "systemd-nspawn\n",
        "version": json.dumps({"release_name": f"0.1.0-{'a' * 12}", "release_digest": LIVE.release_digest}),
    }
    return Output(0, next((text for word, text in result.items() if word in argv[1:]), ""), "")


def output(unit: str) -> str:
    return "\n".join(f"# {path}\n{text}" for path, text in IN_FORCE.get(unit, DEPLOYED).items())


def _install(self: faults.DeployedUnit) -> None:
    path = f"{UNITS}/{self.unit.name}.d/zz-proof.conf"
    self.host.recorder.intent(f"write {path}", scope=self.host.scope, data={"text": self.drop_in()})
    IN_FORCE[self.unit.name] = {**DEPLOYED, path: self.drop_in()}


def _install_copy(self: UnitCopy) -> None:
    """As it really is, but for the writing."""
    unit, hardening = DEPLOYED.values()
    path = f"{UNITS}/{self.unit.name}"
    files = {
        path: unit,
        f"{path}.d/40-hardening.conf": self.instead.get("40-hardening.conf", hardening),
        f"{path}.d/zz-proof.conf": "\n".join(["[Service]", *self.binds(), ""]),
    }
    self.host.recorder.intent(f"copy hybrid-engine.service to {self.unit.name}", scope=self.host.scope, data=files)
    IN_FORCE[self.unit.name] = files


def _patch(self: UnitCopy, old: str, new: str) -> None:
    self.directives.append(f"BindReadOnlyPaths={self.scratch / 'lib'}:/opt/x/lib")
    self.host.note("copied", {"from": "/opt/x/lib", "to": str(self.scratch / "lib")})
    self.host.note("patched", {"module": "x.py", "old": old, "new": new})


def record(root: Path, names: Sequence[str] = ("toy", "toy2")) -> Path:
    """Run toy proofs as `hybrid-proofs inside` would, and return the directory of their evidence."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proofs.host.shell._run", answer)
        patch.setattr(progress, "EVIDENCE_ROOT", root)
        patch.setattr(run, "facts", lambda: FACTS)
        patch.setattr(deployed, "parts_of_unit", lambda shown, checked: PARTS)
        patch.setattr(run_proof, "facts", lambda: FACTS)
        patch.setattr(run_proof, "STATE_DIR", root)
        patch.setattr(lease, "RUN_ROOT", root / "run")
        patch.setattr(lease, "tree_digest", lambda paths: "e" * 64)
        patch.setattr(faults.DeployedUnit, "install", _install)
        patch.setattr(faults.UnitCopy, "install", _install_copy)
        patch.setattr(faults.UnitCopy, "patch", _patch)
        enlist(patch)
        run.record_run(
            [PROOFS[name] for name in names], "hybrid-engine.service", "r1", run.Origin("abc", "0" * 32), 0, Stop()
        )
    return root / "r1"


def enlist(patch: pytest.MonkeyPatch) -> None:
    """Make the toys the catalogue, and required in a lab."""
    for name in reversed(list(PROOFS)):  # what is undone is undone backwards, and their order is part of the catalogue
        patch.delitem(PROOFS, name)
    for name in ("toy", "toy2"):
        patch.setitem(PROOFS, name, toy(name))
    patch.setitem(REQUIRED, "lab", ("toy", "toy2"))


def events_of(directory: Path) -> list[Event]:
    return recorder.read(directory / recorder.EVENTS)


def rechained(events: Sequence[Event]) -> list[Event]:
    """The same events in a chain that holds: what somebody with the files, or with the key, can always make."""
    prev, chain = recorder.GENESIS, []
    for seq, old in enumerate(events):
        event = {**json.loads(json.dumps(old)), "seq": seq, "prev": prev}
        event["sha256"] = prev = hashlib.sha256(recorder.canonical(event)).hexdigest()
        chain.append(event)
    return chain


def put(directory: Path, events: Sequence[Event], spoil: Callable[[Json], None] = lambda statement: None) -> None:
    """Write a recording and the statement that believes it, changed by `spoil`."""
    (directory / recorder.EVENTS).write_bytes(b"".join(map(recorder.line_of, events)))
    statement = bundle.build(events)
    spoil(statement)
    (directory / bundle.STATEMENT).write_bytes(bundle.encode(statement))


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)
    return path


def sign(directory: Path, key: Path) -> None:
    signature.sign((directory / bundle.STATEMENT).read_bytes(), key, directory)
