"""Run one proof: observe the host, arm the lease, run the cases and mutants, restore the host, record the verdict."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from proofs import verdict as verdicts
from proofs.experiment import summary
from proofs.experiment.case import Case, Deployed, Mutant, Proof, run_case
from proofs.experiment.in_place import InPlace
from proofs.experiment.subject import CONFIG_DIR, STATE_DIR, DeployedUnit, Subject, UnitCopy
from proofs.host import deployed as live
from proofs.host.shell import Host, Interrupted, WaitTimeout, facts, pressure
from proofs.host.unit import Unit
from proofs.restore.lease import Lease, snapshot, undo
from proofs.verdict import Json, Result, Verdict

_HEALTHY_S = 20.0  # the engine has to connect to its sources again
Entry = dict[str, Json]


@dataclass
class Run:
    """One call of `hybrid-proofs run`. `say` prints a line of progress."""

    id: str
    unit: str
    evidence: Path
    host: Host
    undo_command: Sequence[str]
    say: Callable[[str], None]
    cap_s: float = 0.0  # of each lease; 0: the proof's own


@dataclass
class Session:
    """A proof that runs under its lease. mutants: the entry of each that has ended, by name."""

    proof: Proof
    run: Run
    host: Host
    unit: Unit
    lease: Lease
    deployed: Deployed
    mutants: dict[str, Entry] = field(default_factory=dict)


Work = Callable[[Session], list[Result]]


def run_proof(proof: Proof, run: Run) -> Entry:
    """Run one proof with its mutants and restore the host. Returns its entry of the statement.

    Raises Interrupted: the run was asked to stop; the host is restored.
    """
    return run_leased(proof, run, _run_in_place if proof.in_place else _run_beside_copies)


def run_leased(proof: Proof, run: Run, work: Work) -> Entry:
    """Do this work under a lease, between two looks at the host. Returns and raises as `run_proof` does."""
    host = run.host.scoped(proof.name)
    entry = _leased_entry(proof, run, host, work)
    host.recorder.write("verdict", scope=host.scope, data=entry, sync=True)
    return entry


def _leased_entry(proof: Proof, run: Run, host: Host, work: Work) -> Entry:
    unit = Unit(host, run.unit)
    host.note("proof", {"name": proof.name, "claim": proof.claim, "bound": proof.bound, "fault": proof.fault})
    if reason := proof.not_applicable(host):
        return summary.of_proof(proof, Verdict.NOT_APPLICABLE, reason, [], {}, None)
    was_healthy = _observe(host, unit, "before")
    state = unit.state(quiet=False)
    if state.active not in ("active", "inactive"):
        reason = f"{run.unit} is {state.active}, so it has no steady state to return to"
        return summary.of_proof(proof, Verdict.INCONCLUSIVE, reason, [], {}, None)
    # A unit without a watchdog has an infinite WatchdogSec=. It is recorded as 0, and is for the proof to find.
    watchdog_s = state.watchdog_s if isfinite(state.watchdog_s) else 0.0
    about = STATE_DIR.stat()  # whose owner the scratch directory must have too
    deployed = Deployed(watchdog_s, state.restart_s, (about.st_uid, about.st_gid))
    lease = Lease(run.id, proof.name, run.unit, str(run.evidence), run.cap_s or proof.cap_s, snapshot(unit, CONFIG_DIR))
    session = Session(proof, run, host, unit, lease, deployed)
    lease.arm(host, run.undo_command)
    reason = ""
    try:
        host.note("deployed", {"watchdog_s": deployed.watchdog_s, "restart_s": deployed.restart_s})
        results = work(session)
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - whatever broke, the host is restored and the verdict is ERROR
        reason = f"{type(error).__name__}: {error}"
        results = [Result("frame", Verdict.ERROR, reason)]
        host.stop.ask()
    finally:  # however that ended; None: another undo (the timer's) took the lease
        report = undo(run.id, "the proof itself", CONFIG_DIR, host) or summary.taken()
    if was_healthy and lease.before["active"] == state.active:
        _await_health(host, report)
    _observe(host, unit, "after")
    verdict = verdicts.merge(result.verdict for result in results)
    return summary.of_proof(proof, verdict, reason, results, session.mutants, report)


def _run_cases(session: Session, subject: Subject, cases: Sequence[Case]) -> list[Result]:
    name, say = session.proof.name, session.run.say
    subject.install()
    subject.host.note("in force", {"cat": subject.unit.cat()})
    results = []
    for case in cases:
        say(f"{name}: {case.name}: {case.fault}")
        result = run_case(case, subject)
        say(f"{name}: {case.name}: {result.verdict}{': ' if result.reason else ''}{result.reason}")
        results.append(result)
    return results


def _run_beside_copies(session: Session) -> list[Result]:
    """The cases on the deployed unit, and at the same time every mutant, and every other case, on a copy of its own.

    All have ended when this returns or raises.
    """
    proof, host = session.proof, session.host
    cases = proof.cases(session.deployed)
    own = [case for case in cases if case.name not in proof.on_copies]
    with ThreadPoolExecutor(1 + len(proof.mutants) + len(proof.on_copies)) as pool:
        try:
            for mutant in proof.mutants:
                name = f"{proof.name}-{mutant.name}"
                pool.submit(_run_mutant, mutant, session, _copy(session, _scope_of(mutant, session), name, mutant=True))
            others = {case.name: pool.submit(_run_on_copy, case, session) for case in cases if case not in own}
            results = _run_cases(
                session, DeployedUnit(host, session.run.unit, session.lease, session.deployed.owner), own
            )
            results += [each.result()[0] for each in others.values()]
        except BaseException:
            host.stop.ask()  # or the others would go on to their ends first
            raise
    order = [case.name for case in cases]
    return sorted(results, key=lambda result: order.index(result.case))


def _run_on_copy(case: Case, session: Session) -> list[Result]:
    name = session.proof.copy_name(case.name)
    copy = _copy(session, session.run.host.scoped(session.proof.scope(case.name)), name)
    try:
        return _run_cases(session, copy, [case])
    finally:
        copy.stop()


def _copy(session: Session, host: Host, name: str, mutant: bool = False) -> UnitCopy:
    return UnitCopy(host, Unit(host, session.run.unit), name, session.lease, session.deployed.owner, mutant)


def _run_in_place(session: Session) -> list[Result]:
    """The cases on the deployed unit, then each mutant's on the same unit; no mutant where there is no PASS to void."""
    owner = session.deployed.owner
    cases = session.proof.cases(session.deployed)
    results = _run_cases(session, InPlace(session.host, session.run.unit, session.lease, owner), cases)
    if verdicts.merge(result.verdict for result in results) is Verdict.PASS:
        for mutant in session.proof.mutants:
            host = _scope_of(mutant, session)
            _run_mutant(mutant, session, InPlace(host, session.run.unit, session.lease, owner, mutant=True))
            if host.stop.asked:
                raise Interrupted(f"stopped in mutant {mutant.name}")
    return results


def _scope_of(mutant: Mutant, session: Session) -> Host:
    return session.run.host.scoped(f"{session.proof.name}/mutant {mutant.name}")


def _run_mutant(mutant: Mutant, session: Session, subject: UnitCopy | InPlace) -> None:
    """Run a mutant's cases and put its entry into the session. No other thread writes that key."""
    host = subject.host
    results: list[Result] = []
    try:
        host.note("mutant", {"name": mutant.name, "what": mutant.what})
        if isinstance(subject, UnitCopy):
            mutant.make(subject)
        subject.install()
        host.note("in force", {"cat": subject.unit.cat()})
        results = [run_case(case, subject) for case in mutant.cases(session.deployed)]
        verdict, reason = verdicts.of_mutant(results)
    except Interrupted:
        verdict, reason = Verdict.ERROR, "interrupted"
    except Exception as error:  # noqa: BLE001 - a mutant that cannot be made shows nothing: void, never FAIL
        verdict, reason = Verdict.ERROR, f"{type(error).__name__}: {error}"
    finally:
        subject.stop()
    entry = summary.of_mutant(mutant.name, mutant.what, verdict, reason, results)
    host.note("mutant judged", entry)
    session.run.say(f"{session.proof.name}: mutant {mutant.name}: {verdict}: {reason}")
    session.mutants[mutant.name] = entry


def _observe(host: Host, unit: Unit, when: str) -> bool:
    """Record health and pressure, for the buglog; True when the operator's engine calls itself healthy."""
    state = unit.state()
    if state.active == "active":
        health = host.look(*live.HEALTH)
        text, rc = (health.stdout or health.stderr).strip(), health.rc
    else:  # opening the database of a stopped engine would leave its -shm and -wal files there
        text, rc = f"not asked: {state.active}", -1
    psi = pressure(state.control_group)
    host.note("observed", {"when": when, "health": text, "health_rc": rc, "psi": psi, "host": facts()})
    return rc == 0


def _await_health(host: Host, report: Entry) -> None:
    """An engine that was healthy before has to become healthy again, else the host is not restored."""
    what = "the operator's engine healthy again"
    try:
        host.wait_for(what, _HEALTHY_S, lambda: host.look(*live.HEALTH, quiet=True).rc == 0)
    except (WaitTimeout, Interrupted) as error:
        report["restored"] = False
        report["problems"].append(str(error))
