"""Run proofs on this host: from the command line into a transient unit, inside it; and undo a run."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from proofs.catalog import PROOFS, REQUIRED
from proofs.evidence import recorder as evidence
from proofs.evidence import statement as bundle
from proofs.evidence.recorder import Recorder
from proofs.evidence.terminal import complain, show
from proofs.experiment.case import Proof
from proofs.experiment.subject import CONFIG_DIR, RELEASE
from proofs.host import deployed, lock
from proofs.host.kind import kind_of_host, systemd_version
from proofs.host.lock import Busy
from proofs.host.shell import Host, Interrupted, Stop, facts, unrecorded_host
from proofs.host.unit import Unit
from proofs.restore import after_boot as boot
from proofs.restore import lease
from proofs.restore.lease import unit_of
from proofs.runner import progress
from proofs.runner.prerequisites import mode_allows, prerequisites
from proofs.runner.run_proof import Entry, Run, run_proof
from proofs.verdict import Json

KEPT_RUNS = 20
_STREAMS = ("StandardOutput", "StandardError")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


class Origin(NamedTuple):
    """Who began a run. git: the revision of the controller's checkout, for the record. nonce: drawn for this run."""

    git: str = ""
    nonce: str = ""


def self_command() -> list[str]:
    """How a unit calls this program: by the launcher's real path, which stays when a new release is installed."""
    launcher = Path(sys.argv[0]).resolve()
    if launcher.name == "hybrid-proofs" and os.access(launcher, os.X_OK):
        return [str(launcher)]
    return ["/usr/bin/env", f"PYTHONPATH={Path(__file__).resolve().parents[2]}", sys.executable, "-m", "proofs.cli"]


def chosen_proofs(names: Sequence[str], host: Host) -> list[str] | None:
    """The names once each, or those required of this kind of host. None, and a line on stderr, for an unknown one."""
    if unknown := [name for name in names if name not in PROOFS]:
        complain(f"no proof is called {unknown[0]!r}: there are {', '.join(PROOFS)}")
        return None
    return list(dict.fromkeys(names)) or list(REQUIRED[kind_of_host(host)])


def applicable(proofs: Sequence[Proof], host: Host) -> list[str]:
    """The names of those proofs that this host can show; of all of them when it can show none."""
    return [proof.name for proof in proofs if not proof.not_applicable(host)] or [proof.name for proof in proofs]


def start(names: Sequence[str], unit: str, run_id: str, origin: Origin, cap_s: float = 0, wait: bool = True) -> int:
    """Run the proofs in a transient unit and return its exit status; Ctrl-C stops the unit cleanly.

    Without `wait`, start it and print its id: `follow` shows its progress, the statement its result.
    """
    with unrecorded_host() as host:
        chosen = chosen_proofs(names, host)
        if chosen is None:
            return 2
        failed = [item for item in prerequisites(host, unit) if not item.ok]
    longest = max(PROOFS[name].cap_s for name in chosen)
    refusals = [f"refused: {item.name}: {item.found}: {item.remedy}" for item in failed]
    if run_id and not _RUN_ID.fullmatch(run_id):
        refusals = [f"--run {run_id!r}: use at most 64 letters, digits, dots and dashes"]
    elif cap_s and not 1 <= cap_s <= longest:
        refusals = [f"--cap {cap_s:g}: use 1 to {longest:g} seconds; {longest:g} is the default of these proofs"]
    if refusals:
        complain(*refusals)
        return 2
    words = ["inside", *chosen, f"--git={origin.git}", f"--nonce={origin.nonce}", f"--unit={unit}", f"--cap={cap_s}"]
    return in_a_unit(run_id or new_run_id(), f"proofs {', '.join(chosen)}", words, wait)


def new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def in_a_unit(run_id: str, description: str, words: Sequence[str], wait: bool) -> int:
    """Call this program with these words and --run in a transient unit, which undoes the run however it ends."""
    name, command = unit_of(run_id), self_command()
    log = progress.EVIDENCE_ROOT / run_id / progress.PROGRESS
    output = ["--pipe", "--wait"] if wait else [f"--property={kind}=append:{log}" for kind in _STREAMS]
    argv = ["systemd-run", f"--unit={name}", "--quiet", *output, "--collect", "--service-type=exec"]
    argv += [f"--description={description}"]
    argv += [f"--property=ExecStopPost={' '.join(command)} undo {run_id} --by=ExecStopPost"]
    # mixed: when the proof is killed the undo runs at once, and what is left of its exchanges is killed after it.
    argv += ["--property=KillMode=mixed", "--property=TimeoutStopSec=90", "--property=Delegate=no"]
    argv += ["--setenv=PYTHONUNBUFFERED=1", *command, *words, f"--run={run_id}"]
    if not wait:
        log.parent.mkdir(parents=True, exist_ok=True)
        show(run_id)
        return subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode
    # In a session of its own: Ctrl-C reaches this process alone, which stops the unit.
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        complain(f"interrupted: stopping {name}, which restores the host")
        subprocess.run(["systemctl", "stop", name], check=False)
        process.wait()
        return 130


RunOne = Callable[[Proof, Run], Entry]  # runs one of the proofs and returns its entry of the statement


def inside(
    proofs: Sequence[Proof], unit_name: str, run_id: str, origin: Origin, cap_s: float, run_one: RunOne = run_proof
) -> int:
    """What the transient unit runs: the proofs, one after the other. Returns the exit status of `hybrid-proofs`."""
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop.ask)
    try:
        with lock.locked(lease.RUN_ROOT / "lock", f"run {run_id}, pid {os.getpid()}"):
            with unrecorded_host() as host:  # the engine may have become LIVE since the prerequisites were looked at
                mode = mode_allows(Unit(host, unit_name))
            if not mode.ok:
                complain(f"refused: {mode.name}: {mode.found}: {mode.remedy}")
                return 2
            return record_run(proofs, unit_name, run_id, origin, cap_s, stop, run_one)
    except Busy as error:
        complain(f"refused: {error}")
        return 2


def record_run(
    proofs: Sequence[Proof],
    unit_name: str,
    run_id: str,
    origin: Origin,
    cap_s: float,
    stop: Stop,
    run_one: RunOne = run_proof,
) -> int:
    """Run the proofs, record everything and write the statement. Returns the exit status of `hybrid-proofs`.

    cap_s: seconds after which a lease ends its proof; 0: the proof's own.
    """
    folder = progress.EVIDENCE_ROOT / run_id
    recorder = Recorder(folder / evidence.EVENTS)
    folder.chmod(0o750)
    _forget_old_runs(run_id)
    # Nobody could write this event, and so none after it, before the controller drew its nonce and this host booted.
    recorder.write("begun", data={"nonce": origin.nonce, "boot_id": facts()["boot_id"]}, sync=True)
    host = Host(recorder, "", stop)
    say = speaker(recorder)
    unit = Unit(host, unit_name)
    credentials = Path("/run/credentials", unit_name)  # LoadCredential=, of the unit that runs
    recorder.learn(deployed.credentials(deployed.environment(), credentials))
    recorder.write("run", data=_header(host, unit, proofs, run_id, origin.git), sync=True)
    run = Run(run_id, unit_name, recorder.path, host, self_command(), say, cap_s)
    interrupted = False
    for proof in proofs:
        say(f"{proof.name}: begins, about {proof.seconds:.0f} s; evidence in {folder}")
        try:
            entry = run_one(proof, run)
        except Interrupted:
            interrupted = True
            say(f"{proof.name}: interrupted; the host is restored")
            break
        say(f"{proof.name}: {entry['verdict']}, engine away {entry['away_s']:.1f} s. {entry['measured']}")
    if not interrupted:  # recorded again, to show that release, config and unit stayed the same through all proofs
        recorder.write("run ended", data=_header(host, unit, proofs, run_id, origin.git), sync=True)
    statement = bundle.write(folder)
    with suppress(OSError):  # nobody reads the output any more; the evidence is complete
        show(bundle.table(statement))
    return 130 if interrupted else int(statement["predicate"]["verdict"] != "PASS")


def undo(run_id: str, by: str) -> int:
    """Undo what a run left on this host. Returns 0 when the host is as it was before the run."""
    report = lease.undo(run_id, by, CONFIG_DIR)
    folder = progress.EVIDENCE_ROOT / run_id
    if report or not (folder / bundle.STATEMENT).exists():
        _end_recording(folder, by)
    if report is None:
        if by == "hand":
            show(f"run {run_id}: nothing to undo")
        return 0
    outcome = "the host is as it was" if report["restored"] else "; ".join(report["problems"])
    show(f"run {run_id}: undone by {by}: {outcome}")
    return 0 if report["restored"] else 1


def after_boot() -> int:
    """Undo the runs that a reboot or a power cut ended. Returns 0 when the host is as it was before them."""
    codes = []
    for left in boot.unfinished_leases(progress.EVIDENCE_ROOT):
        if lease.load(left.run) is None:  # else a run of this boot
            boot.prepare_undo(left)
            codes.append(undo(left.run, "boot"))
    with suppress(Busy), lock.locked(lease.RUN_ROOT / "lock", "the end of recordings"):
        for events in sorted(progress.EVIDENCE_ROOT.glob(f"*/{evidence.EVENTS}")):
            if not events.with_name(bundle.STATEMENT).exists():  # of runs that ended before or after their lease
                _end_recording(events.parent, "boot")
    return max(codes, default=0)


def _end_recording(folder: Path, by: str) -> None:
    """Write the statement of a run that was cut short: a proof that has no verdict is an ERROR."""
    if not (folder / evidence.EVENTS).is_file():
        return
    with suppress(OSError, evidence.ChainBroken):
        # Also cuts off the last line, if its writer was killed in the middle of it.
        Recorder(folder / evidence.EVENTS).write("progress", stdout=f"cut short; ended by {by}", sync=True)
        bundle.write(folder)


def speaker(recorder: Recorder) -> Callable[[str], None]:
    """A function that records a line of progress and prints it with the seconds since now."""
    start_s = time.monotonic()

    def say(text: str) -> None:
        recorder.write("progress", stdout=text)
        with suppress(OSError):  # nobody reads the output any more; the run continues
            show(f"[{time.monotonic() - start_s:6.1f} s] {text}")

    return say


def _header(host: Host, unit: Unit, proofs: Sequence[Proof], run_id: str, git: str) -> dict[str, Json]:
    """What identifies this run: host, systemd, unit, releases and config as they are now."""
    kind = kind_of_host(host, quiet=False)  # recorded, because a verifier looks the kind up in the recording
    version = host.look(str(RELEASE / "bin" / "hybrid-engine"), "version", "--json")
    settings = deployed.settings(host.look(*deployed.SHOW_ENVIRONMENT).stdout)
    variables = [f"{name}={value}" for name, value in settings.items()]
    config = host.look("env", *variables, str(RELEASE / "bin" / "hybrid-engine"), "config", "check")
    shown = host.look(*deployed.show_unit(unit.name))
    about = json.loads(version.stdout) if version.rc == 0 else {}
    digest = re.search(r"\bconfig digest ([0-9a-f]{64})\b", config.stdout)
    own_release = Path(__file__).resolve().parents[3] / "release.json"
    return {
        "run": run_id,
        "unit": unit.name,
        "kind": kind,
        "required": applicable(proofs, host),
        "required_of_host": list(REQUIRED[kind]),
        "git": git,
        "host": facts(),
        "systemd": systemd_version(host),
        "cat": unit.cat(),
        "release_name": about.get("release_name", "?"),
        "release_digest": about.get("release_digest", ""),
        "config_digest": digest[1] if digest else "",
        "unit_parts": deployed.parts_of_unit(shown.stdout, config.stdout),
        "proofs_release": json.loads(own_release.read_text())["name"] if own_release.exists() else "a checkout",
    }


def _forget_old_runs(keep: str) -> None:
    """Remove all but the newest runs from the host; the controller has fetched the others."""
    runs = [path for path in progress.EVIDENCE_ROOT.iterdir() if path.is_dir() and path.name != keep]
    for path in sorted(runs, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_RUNS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
