"""The lease restores the host: what is to be undone is saved, and a timer armed to undo it, before a fault begins.

`undo` runs at the end of the proof, from ExecStopPost= of the run's unit when the proof was killed, and from the timer
when that is gone too. It is idempotent, and records what it does. Two of them take turns: they hold a lock, but one
that cannot have it in time goes on without.

Everything it removes lies under /run, so a reboot removes it as well. The one exception are the backups of a lab's
edited files: they lie in the run's evidence, and are restored after the boot.
"""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from proofs.evidence.atomic_file import write_atomically
from proofs.evidence.recorder import Recorder
from proofs.host.lock import holder, locked_within
from proofs.host.regular_file import remove_tree
from proofs.host.shell import Host, WaitTimeout
from proofs.host.unit import Unit, tree_digest
from proofs.restore import file_backups
from proofs.verdict import Json

RUN_ROOT = Path("/run/hybrid-proofs")
SYSTEMD_RUN = Path("/run/systemd/system")
SYSTEMD_CONTROL = Path("/run/systemd/system.control")  # outranks /etc: where a drop-in of the same name masks one
SOAK_UNIT = "hybrid-soak.service"
_SOAK_RUN = re.compile(r"soak-[0-9a-f]{32}")
_KILL = ("kill", "--kill-whom=all", "--signal=KILL")
_saving = threading.Lock()  # a proof and its mutants add to one lease from several threads
_LOCKED_S = 5.0  # how long an undo waits for another one to end
_RESTORED_S = 30.0  # how long the operator's unit may take to reach its former state
_DEPLOYING = Path("/run/hybrid-deploy")
_DEPLOYED_S = 40.0  # how long a deployment that a proof requested may take to end


@dataclass
class Lease:
    """What a proof may have done to the host, and the host's state before. Saved at every change."""

    run: str
    proof: str
    unit: str
    evidence: str
    cap_s: float
    before: dict[str, Json]
    files: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    originals: dict[str, Json] = field(default_factory=dict)  # the operator's files that are edited: file_backups.py
    disturbed_mono: float = 0.0  # CLOCK_MONOTONIC seconds at which the operator's process was first touched; 0: never
    at_work: bool = False  # the operator's engine continues its own work: it is not away, and has to drain

    @property
    def path(self) -> Path:
        return RUN_ROOT / self.run / "lease.json"

    @property
    def scratch(self) -> Path:
        return RUN_ROOT / self.run / self.proof

    def save(self) -> None:
        with _saving:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            write_atomically(self.path, json.dumps(asdict(self)).encode())

    def arm(self, host: Host, undo_command: Sequence[str]) -> None:
        """Save the lease, then set the timer that undoes it when nothing else does."""
        self.save()
        host.recorder.intent("what will be undone, and what it was before", scope=host.scope, data=asdict(self))
        unit, accuracy = timer_of(self.run).removesuffix(".timer"), "--timer-property=AccuracySec=100ms"
        undo = (*undo_command, "undo", self.run, "--by=timer")
        host.do("systemd-run", "--quiet", f"--unit={unit}", self._timer_flag(host), accuracy, *undo)

    def _timer_flag(self, host: Host) -> str:
        """When the timer elapses, counted from the start of systemd.

        A proof makes many a daemon-reload, after each of which systemd 252 begins to count an OnActiveSec= anew.
        """
        output = host.look("systemctl", "show", "--property=UserspaceTimestampMonotonic", quiet=True).stdout
        start = re.search(r"^UserspaceTimestampMonotonic=(\d+)$", output, re.M)
        if start is None:
            return f"--on-active={self.cap_s:.0f}"
        return f"--on-startup={time.monotonic() - int(start[1]) / 1e6 + self.cap_s:.0f}"

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
        """Back up these files of the operator's where a power cut does not remove them, and record where."""
        new = [path for path in paths if str(path) not in self.originals]  # a file that is edited already has a backup
        self.originals |= file_backups.back_up(new, Path(self.evidence).parent / file_backups.FOLDER)
        self.save()
        host.recorder.intent("what will be edited, and where it is kept", scope=host.scope, data=asdict(self))

    def will_find(self, host: Host, active: str) -> None:
        """The unit reached this state by itself, and the undo leaves it there; recorded as well."""
        self.before["active"] = active
        self.save()
        host.recorder.intent("what is to be left as it is", scope=host.scope, data=asdict(self))

    def leave_work(self) -> None:
        """From now on the operator's engine works on a scratch database, and so is away from its own work."""
        self.at_work, self.disturbed_mono = False, time.monotonic()
        self.save()

    def will_disturb(self) -> None:
        """From now on the undo has to restart the operator's unit."""
        if not self.disturbed_mono:
            self.disturbed_mono = time.monotonic()
            self.save()


def timer_of(run: str) -> str:
    """The timer that undoes a run when nothing else does."""
    return f"hybrid-proof-lease-{run}.timer"


def unit_of(run: str) -> str:
    """The unit that a run is in: a transient one, or hybrid-soak.service, whose invocation is part of the run's id."""
    return SOAK_UNIT if _SOAK_RUN.fullmatch(run) else f"hybrid-proof-{run}.service"


def load(run: str) -> Lease | None:
    try:
        return Lease(**json.loads((RUN_ROOT / run / "lease.json").read_text()))
    except FileNotFoundError:
        return None


def pending() -> list[str]:
    """The ids of runs that are not undone yet."""
    return sorted(path.parent.name for path in RUN_ROOT.glob("*/lease.json"))


def snapshot(unit: Unit, config_dir: Path) -> dict[str, Json]:
    """The state of the operator's unit and config now, which `undo` compares with the state afterwards."""
    state = unit.state()
    return {
        "active": state.active,
        "sub": state.sub,
        "invocation": state.invocation,
        "cat_sha256": unit.cat_digest(),
        "etc_sha256": tree_digest([config_dir, Path("/etc/systemd/system")]),
    }


def undo(run: str, by: str, config_dir: Path, host: Host | None = None) -> dict[str, Json] | None:
    """Undo everything that the lease of this run names.

    Returns {by, restored, away_s, problems, after}, where restored is False when something is not as it was; None when
    there is nothing to undo (any more).

    by: who undoes it ("the proof itself", "ExecStopPost", "timer", "boot", "hand"), for the record.
    host: records into the proof's own recorder; None: the recording is opened again.
    """
    lock = RUN_ROOT / "undo.lock"
    if by == "timer" and holder(lock):
        _kill(run)  # the process that holds the lock may be frozen
    with locked_within(lock, f"undo of {run} by {by}", _LOCKED_S) as alone:
        lease = load(run)
        if lease is None:
            # Killed before it saved its lease, it had touched nothing; after that was removed, it may leave the timer.
            if run in os.listdir(RUN_ROOT):
                remove_tree(RUN_ROOT / run)
            _systemctl("stop", timer_of(run))
            return None
        if by == "timer":
            # A process that is frozen while it writes a line holds the recording's lock.
            _kill(run)
        recorder = host.recorder if host else Recorder(Path(lease.evidence))
        shell = Host(recorder, f"{lease.proof}/undo")
        note = "" if alone else f", without the lock: not free within {_LOCKED_S:g} s ({holder(lock)})"
        recorder.intent(f"undo, by {by}{note}", scope=shell.scope, data=asdict(lease))
        if by == "timer":
            shell.do("systemctl", *_KILL, unit_of(run), check=False)
        report = _restore(lease, shell, by, config_dir)
        recorder.write("undone", scope=shell.scope, data=report, sync=True)
        if report["restored"]:
            file_backups.remove_backups(lease.originals)
        lease.path.unlink(missing_ok=True)
        remove_tree(lease.path.parent)  # with the draft of a lease that was being saved when it was killed
        shell.do("systemctl", "stop", timer_of(run), check=False)
        return report


def _kill(run: str) -> None:
    """Kill a run's processes, whatever state they are in. The record of it follows once the recording is free."""
    _systemctl(*_KILL, unit_of(run))


def _systemctl(*words: str) -> None:
    """Run systemctl without recording it; it may fail."""
    subprocess.run(["systemctl", *words], check=False, capture_output=True)


def _restore(lease: Lease, shell: Host, by: str, config_dir: Path) -> dict[str, Json]:
    unit = Unit(shell, lease.unit)
    if lease.originals:
        _restore_files(lease, shell)
    # An engine on a scratch database is killed; one on its own database is stopped as its operator would stop it.
    running = [lease.unit] if lease.disturbed_mono and not (lease.originals or lease.at_work) else []
    for name in [*lease.copies, *running]:  # frozen or healthy: a scratch engine has nothing to drain
        shell.do("systemctl", *_KILL, name, check=False)
    for name in [*lease.copies, *running]:  # or it starts once more, and behind this on the operator's database
        shell.do("systemctl", "stop", name, check=False)
    for name in lease.mounts:  # lazily, in case a process still uses it
        if os.path.ismount(name):
            shell.do("umount", "--lazy", name, check=False)
    for name in lease.files:
        path = Path(name)
        path.unlink(missing_ok=True)
        for folder in path.parents[:2]:  # a unit's .d, and system.control where that was not there before
            removable = folder.name.endswith(".d") or folder == SYSTEMD_CONTROL
            if removable and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    shell.do("systemctl", "daemon-reload", check=False)
    for name in lease.copies:
        shell.do("systemctl", "reset-failed", name, check=False)
    if lease.disturbed_mono:
        # One that is stopped was killed above, and so is failed.
        verbs = ["restart"] if lease.before["active"] == "active" else ["stop", "reset-failed"]
        for verb in ("reset-failed", *verbs):
            shell.do("systemctl", verb, lease.unit, check=False)
    problems = []
    former = lease.before["active"]
    # A host that shuts down starts nothing any more: what is enabled starts at its next boot.
    stopping = shell.look("systemctl", "is-system-running", quiet=True).stdout.strip() == "stopping"
    try:
        patience = 0.0 if stopping else _RESTORED_S
        shell.wait_for(f"{lease.unit} {former} again", patience, lambda: unit.state().active == former)
    except WaitTimeout as error:
        problems.append(str(error))
    away = lease.disturbed_mono and not lease.at_work
    away_s = round(time.monotonic() - lease.disturbed_mono, 3) if away else 0.0
    remove_tree(lease.scratch)
    after = snapshot(unit, config_dir)
    changed = [key for key in ("active", "cat_sha256", "etc_sha256") if after[key] != lease.before[key]]
    problems += [f"{key} is not what it was" for key in changed]
    problems += [f"{name} is still there" for name in lease.files if os.path.lexists(name)]
    problems += [f"{name} is still mounted" for name in lease.mounts if os.path.ismount(name)]
    problems += [f"{name} is not what it was" for name in file_backups.changed(lease.originals)]
    return {"by": by, "restored": not problems, "away_s": away_s, "problems": problems, "after": after}


def _restore_files(lease: Lease, shell: Host) -> None:
    """Restore the operator's files, but not while a deployment that the proof requested writes to them.

    A deployment whose engine ends now would roll back to the files that *it* began with. So its end is awaited, unless
    the controller that ran it is gone.
    """
    deployment = _DEPLOYING / f"{lease.unit}.json"
    while True:
        try:
            shell.wait_for("no deployment under way", _DEPLOYED_S, lambda: not deployment.exists())
        except WaitTimeout:
            deployment.unlink(missing_ok=True)
        file_backups.put_back(lease.originals)
        if not deployment.exists():
            return
