"""Restore is a lease: what will be undone is on the disk, and a timer armed to do it, before anything is disturbed.

The same `undo` runs at the proof's own end, from ExecStopPost= of its transient unit when it was killed, and from the
timer when that is gone too. It is idempotent, takes turns with itself, and records itself. Everything it removes lies
under /run, so a reboot does the rest; but for what a lab's files were before they were edited, which lies in the run's
evidence and is put back after the boot.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from proofs.evidence.recorder import Recorder
from proofs.host.lock import holder, locked
from proofs.host.shell import Host, Waited
from proofs.host.unit import State, Unit, tree_digest
from proofs.restore import file_backups
from proofs.verdict import Json

RUN_ROOT = Path("/run/hybrid-proofs")
SYSTEMD_RUN = Path("/run/systemd/system")
SYSTEMD_CONTROL = Path("/run/systemd/system.control")  # outranks /etc: where a drop-in of the same name masks one
SOAK_UNIT = "hybrid-soak.service"
_SOAK_RUN = re.compile(r"soak-[0-9a-f]{32}")
_saving = threading.Lock()  # a proof and its mutants announce their files from several threads
_BACK_S = 30.0  # how long the operator's unit may take to be back as it was
_DEPLOYING = Path("/run/hybrid-deploy")
_DEPLOYED_S = 40.0  # how long the end of a deployment is waited for that a proof had asked for


@dataclass
class Lease:
    """What a proof may have done to the host and how it was before. Saved at every change."""

    run: str
    proof: str
    unit: str
    evidence: str
    cap_s: float
    before: dict[str, Json]
    files: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    originals: dict[str, Json] = field(default_factory=dict)  # the operator's files that are edited: see originals.py
    disturbed_mono: float = 0.0  # CLOCK_MONOTONIC seconds at which the operator's process was first touched; 0: never
    at_work: bool = False  # the operator's engine goes on with its own work meanwhile: it is not away, and has to drain

    @property
    def path(self) -> Path:
        return RUN_ROOT / self.run / "lease.json"

    @property
    def scratch(self) -> Path:
        return RUN_ROOT / self.run / self.proof

    @property
    def timer(self) -> str:
        return timer_of(self.run)

    def save(self) -> None:
        with _saving:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            draft = self.path.with_suffix(".new")
            with draft.open("w") as file:
                json.dump(asdict(self), file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)

    def arm(self, host: Host, undo_command: Sequence[str]) -> None:
        """Persist the intent, then set the timer that undoes it should everything else be gone."""
        self.save()
        host.recorder.intent("what will be undone, and what it was before", scope=host.scope, data=asdict(self))
        host.do(
            "systemd-run", "--quiet", f"--unit={self.timer.removesuffix('.timer')}", self._when(host),
            "--timer-property=AccuracySec=100ms", *undo_command, "undo", self.run, "--by=timer",
        )  # fmt: skip

    def _when(self, host: Host) -> str:
        """The flag that sets the timer, counted from systemd's own start: every daemon-reload, of which a proof makes
        many, has systemd 252 count an OnActiveSec= from its beginning again."""
        shown = host.look("systemctl", "show", "--property=UserspaceTimestampMonotonic", quiet=True).stdout
        began = re.search(r"^UserspaceTimestampMonotonic=(\d+)$", shown, re.M)
        if began is None:
            return f"--on-active={self.cap_s:.0f}"
        return f"--on-startup={time.monotonic() - int(began[1]) / 1e6 + self.cap_s:.0f}"

    def will_write(self, *paths: Path) -> None:
        self.files += [str(path) for path in paths if str(path) not in self.files]
        self.save()

    def will_copy(self, unit: str) -> None:
        self.copies.append(unit)
        self.save()

    def will_mount(self, place: Path) -> None:
        self.mounts.append(str(place))
        self.save()

    def will_edit(self, host: Host, *paths: Path) -> None:
        """Keep what these files of the operator's are now, where it outlives a power cut; the recording says where."""
        new = [path for path in paths if str(path) not in self.originals]  # not again: by now it may be another
        self.originals |= file_backups.keep(new, Path(self.evidence).parent / file_backups.FOLDER)
        self.save()
        host.recorder.intent("what will be edited, and where it is kept", scope=host.scope, data=asdict(self))

    def will_find(self, host: Host, active: str) -> None:
        """The unit got into another state by itself, which is how it is to be left; the recording says so."""
        self.before["active"] = active
        self.save()
        host.recorder.intent("what is to be left as it is", scope=host.scope, data=asdict(self))

    def leave_work(self) -> None:
        """From now on the operator's engine is away from its work, on something of ours."""
        self.at_work, self.disturbed_mono = False, time.monotonic()
        self.save()

    def will_disturb(self) -> None:
        if not self.disturbed_mono:
            self.disturbed_mono = time.monotonic()
            self.save()


def timer_of(run: str) -> str:
    """The timer that undoes a run when everything else is gone."""
    return f"hybrid-proof-lease-{run}.timer"


def unit_of(run: str) -> str:
    """The unit that a run is in: one of its own, or the installed one of soaks, which names runs by its invocation."""
    return SOAK_UNIT if _SOAK_RUN.fullmatch(run) else f"hybrid-proof-{run}.service"


def load(run: str) -> Lease | None:
    try:
        return Lease(**json.loads((RUN_ROOT / run / "lease.json").read_text()))
    except FileNotFoundError:
        return None


def pending() -> list[str]:
    """Runs whose undo is still due."""
    return sorted(path.parent.name for path in RUN_ROOT.glob("*/lease.json"))


def snapshot(unit: Unit, config_dir: Path) -> dict[str, Json]:
    """How the operator's unit and config are now: what `undo` compares with."""
    state: State = unit.state()
    return {
        "active": state.active, "sub": state.sub, "invocation": state.invocation, "cat_sha256": unit.cat_digest(),
        "etc_sha256": tree_digest([config_dir, Path("/etc/systemd/system")]),
    }  # fmt: skip


def undo(run: str, by: str, config_dir: Path, host: Host | None = None) -> dict[str, Json] | None:
    """Take back everything the lease of this run names; None when there is nothing to take back (any more).

    Returns {by, restored, away_s, problems, after}: restored is False when something is not as it was.
    """
    lock = RUN_ROOT / "undo.lock"
    if by == "timer" and holder(lock):
        _kill(run)  # whoever undoes it already may be frozen over it
    with locked(lock, f"undo of {run} by {by}", wait=True):
        lease = load(run)
        if lease is None:
            # Killed before its lease was saved, it had touched nothing yet; killed after its lease was taken away, what
            # may be left is the timer.
            if run in os.listdir(RUN_ROOT):
                shutil.rmtree(RUN_ROOT / run, ignore_errors=True)
            _systemctl("stop", timer_of(run))
            return None
        if by == "timer":
            # Frozen in the middle of a line it holds the recording: nothing can be written before it is gone.
            _kill(run)
        recorder = host.recorder if host else Recorder(Path(lease.evidence))
        shell = Host(recorder, f"{lease.proof}/undo")
        recorder.intent(f"undo, by {by}", scope=shell.scope, data=asdict(lease))
        if by == "timer":
            shell.do("systemctl", "kill", "--kill-whom=all", "--signal=KILL", unit_of(lease.run), check=False)
        report = _take_back(lease, shell, by, config_dir)
        recorder.write("undone", scope=shell.scope, data=report, sync=True)
        if report["restored"]:
            file_backups.forget(lease.originals)
        lease.path.unlink()
        shutil.rmtree(lease.path.parent)  # with the draft of a lease that was being saved when it was killed
        shell.do("systemctl", "stop", lease.timer, check=False)
        return report


def _kill(run: str) -> None:
    """End a run's processes, whatever state they are in. It is recorded when it can be, a moment later."""
    _systemctl("kill", "--kill-whom=all", "--signal=KILL", unit_of(run))


def _systemctl(*words: str) -> None:
    """A command that is not recorded, and may find nothing to do."""
    subprocess.run(["systemctl", *words], check=False, capture_output=True)


def _take_back(lease: Lease, shell: Host, by: str, config_dir: Path) -> dict[str, Json]:
    unit = Unit(shell, lease.unit)
    if lease.originals:
        _put_back(lease, shell)
    # A scratch engine; on its real database it is stopped as its operator would.
    running = [lease.unit] if lease.disturbed_mono and not (lease.originals or lease.at_work) else []
    for name in [*lease.copies, *running]:  # stopped, wedged or healthy: a scratch engine has nothing to drain
        shell.do("systemctl", "kill", "--kill-whom=all", "--signal=KILL", name, check=False)
    for name in lease.copies:
        shell.do("systemctl", "stop", name, check=False)
    for name in lease.mounts:  # nobody uses them any more; lazily, should somebody all the same
        if os.path.ismount(name):
            shell.do("umount", "--lazy", name, check=False)
    for name in lease.files:
        path = Path(name)
        path.unlink(missing_ok=True)
        for folder in path.parents[:2]:  # a unit's .d, and system.control where that had not been there before
            made = folder.name.endswith(".d") or folder == SYSTEMD_CONTROL
            if made and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    shell.do("systemctl", "daemon-reload", check=False)
    for name in lease.copies:
        shell.do("systemctl", "reset-failed", name, check=False)
    if lease.disturbed_mono:
        shell.do("systemctl", "reset-failed", lease.unit, check=False)
        verb = "restart" if lease.before["active"] == "active" else "stop"
        shell.do("systemctl", verb, lease.unit, check=False)
        if verb == "stop":  # killed above, it counts as failed
            shell.do("systemctl", "reset-failed", lease.unit, check=False)
    problems = []
    try:
        shell.wait(
            f"{lease.unit} {lease.before['active']} again", _BACK_S,
            lambda: unit.state().active == lease.before["active"],
        )  # fmt: skip
    except Waited as error:
        problems.append(str(error))
    away = lease.disturbed_mono and not lease.at_work
    away_s = round(time.monotonic() - lease.disturbed_mono, 3) if away else 0.0
    shutil.rmtree(lease.scratch, ignore_errors=True)
    after = snapshot(unit, config_dir)
    problems += [
        f"{key} is not what it was" for key in ("active", "cat_sha256", "etc_sha256") if after[key] != lease.before[key]
    ]
    problems += [f"{name} is still there" for name in lease.files if os.path.lexists(name)]
    problems += [f"{name} is still mounted" for name in lease.mounts if os.path.ismount(name)]
    problems += [f"{name} is not what it was" for name in file_backups.changed(lease.originals)]
    return {"by": by, "restored": not problems, "away_s": away_s, "problems": problems, "after": after}


def _put_back(lease: Lease, shell: Host) -> None:
    """Put the operator's files back, not under the hands of a deployment that the proof had asked for.

    One that goes on puts back what *it* found, should the engine end under it now: so it is let finish, unless whoever
    ran it is gone.
    """
    under_way = _DEPLOYING / f"{lease.unit}.json"
    while True:
        try:
            shell.wait("no deployment under way", _DEPLOYED_S, lambda: not under_way.exists())
        except Waited:
            under_way.unlink(missing_ok=True)
        file_backups.put_back(lease.originals)
        if not under_way.exists():
            return
