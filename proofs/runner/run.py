"""From the command line to a transient unit and back: plan, start, inside, undo."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from proofs.catalog import PROOFS, REQUIRED
from proofs.evidence import recorder as evidence
from proofs.evidence import statement as bundle
from proofs.evidence.recorder import Recorder
from proofs.experiment.case import Proof
from proofs.experiment.subject import CONFIG_DIR, RELEASE
from proofs.host import deployed, lock
from proofs.host.kind import kind_of_host, systemd_version
from proofs.host.lock import Busy
from proofs.host.shell import Host, Interrupted, Stop, facts
from proofs.host.unit import Unit
from proofs.restore import after_boot as boot
from proofs.restore import lease
from proofs.restore.lease import unit_of
from proofs.runner.prerequisites import mode_allows, prerequisites
from proofs.runner.run_proof import Run, run_proof
from proofs.verdict import Json

EVIDENCE_ROOT = Path("/var/lib/hybrid-proofs")
KEPT_RUNS = 20
PROGRESS = "progress.log"
_STREAMS = ("StandardOutput", "StandardError")
Catalogue = Mapping[str, Proof]
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


def self_command() -> list[str]:
    """How to call this program again, from a unit: by the launcher's real path, which outlives a new release."""
    launcher = Path(sys.argv[0]).resolve()
    if launcher.name == "hybrid-proofs" and os.access(launcher, os.X_OK):
        return [str(launcher)]
    return [sys.executable, "-m", "proofs.cli"]


def _complain(text: str) -> None:
    print(f"hybrid-proofs: {text}", file=sys.stderr)


def chosen_proofs(names: Sequence[str], host: Host) -> list[str] | None:
    """The proofs that these names mean, the host's required set for none; None, and a line, for a name of none."""
    unknown = [name for name in names if name not in PROOFS]
    if unknown:
        _complain(f"no proof is called {unknown[0]!r}: there are {', '.join(PROOFS)}")
        return None
    return list(dict.fromkeys(names)) or list(REQUIRED[kind_of_host(host)])


def applicable(names: Sequence[str], host: Host, catalogue: Catalogue = PROOFS) -> list[str]:
    """Those of these proofs that this host can show; all of them when it can show none, for it was asked to."""
    return [name for name in names if not catalogue[name].not_applicable(host)] or list(names)


def start(names: Sequence[str], unit: str, run_id: str, git: str, cap_s: float = 0, wait: bool = True) -> int:
    """Run the proofs in a transient unit of their own and pass its exit status on; Ctrl-C stops it cleanly.

    Without `wait` it is only begun, and its id printed: `follow` tells how it goes, the statement how it went.
    """
    with tempfile.TemporaryDirectory() as scratch:
        host = Host(Recorder(Path(scratch) / evidence.EVENTS))
        chosen = chosen_proofs(names, host)
        if chosen is None:
            return 2
        failed = [item for item in prerequisites(host, unit) if not item.ok]
    if run_id and not _RUN_ID.fullmatch(run_id):
        _complain(f"--run {run_id!r}: letters, digits, dots and dashes only, at most 64")
        return 2
    longest = max(PROOFS[name].cap_s for name in chosen)
    if cap_s and not 1 <= cap_s <= longest:
        _complain(f"--cap {cap_s:g}: seconds, from 1 to the {longest:g} that these proofs have by themselves")
        return 2
    if failed:
        for item in failed:
            _complain(f"refused: {item.name}: {item.found}: {item.remedy}")
        return 2
    words = ["inside", *chosen, f"--git={git}", f"--unit={unit}", f"--cap={cap_s}"]
    return in_a_unit(run_id or new_run_id(), f"proofs {', '.join(chosen)}", words, wait)


def new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def in_a_unit(run_id: str, what: str, words: Sequence[str], wait: bool) -> int:
    """Run these words of ours and --run in a transient unit, which undoes the run however it ends."""
    name, command = unit_of(run_id), self_command()
    log = EVIDENCE_ROOT / run_id / PROGRESS
    if not wait:
        log.parent.mkdir(parents=True, exist_ok=True)
    output = ["--pipe", "--wait"] if wait else [f"--property={kind}=append:{log}" for kind in _STREAMS]
    argv = [
        "systemd-run", f"--unit={name}", "--quiet", *output, "--collect", "--service-type=exec",
        f"--description={what}",
        f"--property=ExecStopPost={' '.join(command)} undo {run_id} --by=ExecStopPost",
        # mixed: when the proof is killed the undo runs at once, and what is left of its exchanges is killed after it.
        "--property=KillMode=mixed", "--property=TimeoutStopSec=90", "--property=Delegate=no",
        "--setenv=PYTHONUNBUFFERED=1", *_python_path(command), *command, *words, f"--run={run_id}",
    ]  # fmt: skip
    if not wait:
        print(run_id)
        return subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode
    # A session of its own: Ctrl-C is for us, and we tell systemd.
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        _complain("stopping, and putting the host back")
        subprocess.run(["systemctl", "stop", name], check=False)
        process.wait()
        return 130


def _python_path(command: Sequence[str]) -> list[str]:
    """From a checkout (no launcher), the unit has to be told where the package is."""
    return [f"--setenv=PYTHONPATH={Path(__file__).resolve().parents[2]}"] if len(command) > 1 else []


def inside(
    names: Sequence[str], unit_name: str, run_id: str, git: str, cap_s: float, catalogue: Catalogue = PROOFS
) -> int:
    """The proofs themselves, one after the other."""
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop.ask)
    try:
        with lock.locked(lease.RUN_ROOT / "lock", f"run {run_id}, pid {os.getpid()}", wait=False):
            refused = _trades_now(unit_name)
            if refused:
                _complain(refused)
                return 2
            return _all(names, unit_name, run_id, git, cap_s, stop, catalogue)
    except Busy as error:
        _complain(f"refused: {error}")
        return 2


def _trades_now(unit_name: str) -> str:
    """Why not, when the operator's engine went LIVE since it was looked at."""
    with tempfile.TemporaryDirectory() as scratch:
        mode = mode_allows(Unit(Host(Recorder(Path(scratch) / evidence.EVENTS)), unit_name))
    return "" if mode.ok else f"refused: {mode.name}: {mode.found}: {mode.remedy}"


def _all(
    names: Sequence[str], unit_name: str, run_id: str, git: str, cap_s: float, stop: Stop,
    catalogue: Catalogue = PROOFS,
) -> int:  # fmt: skip
    folder = EVIDENCE_ROOT / run_id
    recorder = Recorder(folder / evidence.EVENTS)
    folder.chmod(0o750)
    _forget_old_runs(run_id)
    host = Host(recorder, "", stop)
    say = speaker(recorder)
    unit = Unit(host, unit_name)
    given = Path("/run/credentials", unit_name)  # LoadCredential=, of the unit that runs
    recorder.learn(deployed.credentials(deployed.environment(), given))
    recorder.write("run", data=_header(host, unit, names, run_id, git, catalogue), sync=True)
    command = self_command()
    undo_command = (
        ["env", f"PYTHONPATH={Path(__file__).resolve().parents[2]}", *command] if len(command) > 1 else command
    )
    run = Run(run_id, unit_name, recorder.path, host, undo_command, say, cap_s)
    interrupted = False
    for name in names:
        say(f"{name}: begins, about {catalogue[name].seconds:.0f} s; evidence in {folder}")
        try:
            entry = run_proof(catalogue[name], run)
        except Interrupted:
            interrupted = True
            say(f"{name}: interrupted; the host is back as it was")
            break
        say(f"{name}: {entry['verdict']}, engine away {entry['away_s']:.1f} s. {entry['measured']}")
    if not interrupted:  # the same once more: what was proven is what was there from the first proof to the last
        recorder.write("run ended", data=_header(host, unit, names, run_id, git, catalogue), sync=True)
    statement = bundle.write(folder)
    with suppress(OSError):  # who waited for it is gone; the evidence is complete
        print(bundle.table(statement), flush=True)
    if interrupted:
        return 130
    return 0 if statement["predicate"]["verdict"] == "PASS" else 1


def undo(run_id: str, by: str) -> int:
    """Take back what a run left. 0 when the host is as it was before the run."""
    report = lease.undo(run_id, by, CONFIG_DIR)
    folder = EVIDENCE_ROOT / run_id
    if report or not (folder / bundle.STATEMENT).exists():
        _end(folder, by)
    if report is None:
        if by == "hand":
            print(f"run {run_id}: nothing to undo")
        return 0
    print(f"run {run_id}: undone by {by}: " + ("as it was" if report["restored"] else "; ".join(report["problems"])))
    return 0 if report["restored"] else 1


def after_boot() -> int:
    """Undo what runs left that a reboot or a power cut ended. 0 when the host is as it was before them."""
    codes = [undo(run_id, "boot") for run_id in boot.pending(EVIDENCE_ROOT)]
    with suppress(Busy), lock.locked(lease.RUN_ROOT / "lock", "the end of recordings", wait=False):
        for folder in boot.unended(EVIDENCE_ROOT):  # it went down when there was nothing (more) to undo
            _end(folder, "boot")
    return max(codes, default=0)


def _end(folder: Path, by: str) -> None:
    """Make the statement of a run that was cut short: what it had no time for is an ERROR."""
    if not (folder / evidence.EVENTS).is_file():
        return
    with suppress(OSError, evidence.ChainBroken):
        # Also cuts off the line that its writer did not live to finish.
        Recorder(folder / evidence.EVENTS).write("progress", stdout=f"cut short; ended by {by}", sync=True)
        bundle.write(folder)


def speaker(recorder: Recorder) -> Callable[[str], None]:
    began = time.monotonic()

    def say(text: str) -> None:
        recorder.write("progress", stdout=text)
        with suppress(OSError):  # nobody listens any more: the work goes on
            print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)

    return say


def _header(
    host: Host, unit: Unit, names: Sequence[str], run_id: str, git: str, catalogue: Catalogue
) -> dict[str, Json]:
    """What identifies this run: host, systemd, unit, releases and config as they are now."""
    kind = kind_of_host(host, quiet=False)  # a verifier believes what was recorded of it
    version = host.look(str(RELEASE / "bin" / "hybrid-engine"), "version", "--json")
    of_unit = deployed.settings(host.look(*deployed.SHOW_ENVIRONMENT).stdout)
    given = [f"{name}={value}" for name, value in of_unit.items()]
    shown = host.look("env", *given, str(RELEASE / "bin" / "hybrid-engine"), "config", "check")
    about = json.loads(version.stdout) if version.rc == 0 else {}
    digest = re.search(r"\bconfig digest ([0-9a-f]{64})\b", shown.stdout)
    ours = Path(__file__).resolve().parents[3] / "release.json"
    return {
        "run": run_id, "unit": unit.name, "kind": kind, "required": applicable(names, host, catalogue),
        "required_of_host": list(REQUIRED[kind]), "git": git, "host": facts(),
        "systemd": systemd_version(host), "cat": unit.cat(), "release_name": about.get("release_name", "?"),
        "release_digest": about.get("release_digest", ""), "config_digest": digest[1] if digest else "",
        "proofs_release": json.loads(ours.read_text())["name"] if ours.exists() else "a checkout",
    }  # fmt: skip


def _forget_old_runs(keep: str) -> None:
    """The host keeps the evidence of its last runs; the controller has fetched the others."""
    import shutil

    runs = sorted(
        (path for path in EVIDENCE_ROOT.iterdir() if path.is_dir() and path.name != keep),
        key=lambda p: p.stat().st_mtime,
    )
    for path in runs[: max(0, len(runs) - KEPT_RUNS + 1)]:
        shutil.rmtree(path, ignore_errors=True)
