"""Conduct one proof: lease, the cases on the real unit with the mutants beside them, undo, and the proof's entry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import ClassVar

from proofs import verdict as verdicts
from proofs.experiment import summary as entries
from proofs.experiment.case import Deployed, Mutant, Proof, run_case
from proofs.experiment.in_place import InPlace
from proofs.experiment.subject import CONFIG_DIR, STATE_DIR, Copy, Real, Subject
from proofs.host.shell import Host, Interrupted, Waited, facts, pressure
from proofs.host.unit import Unit
from proofs.restore import lease as leases
from proofs.restore.lease import Lease
from proofs.verdict import Json, Result, Verdict

_HEALTHY_S = 20.0  # a feed has to be found again


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
    HEALTH: ClassVar[tuple[str, ...]] = ("/opt/hybrid-engine/current/bin/hybrid-engine", "health", "--json")


def run_proof(proof: Proof, run: Run) -> dict[str, Json]:
    """Run one proof with its mutants and put the host back. Returns its entry of the statement.

    Raises:
        Interrupted: asked to stop; the host is back as it was.
    """
    host = run.host.scoped(proof.name)
    unit = Unit(host, run.unit)
    host.note("proof", {"name": proof.name, "claim": proof.claim, "bound": proof.bound, "fault": proof.fault})
    why_not = proof.not_applicable(host)
    if why_not:
        return _entry(proof, host, Verdict.NOT_APPLICABLE, why_not, [], {}, None)
    was_healthy = _observe(run, host, unit, "before")
    state = unit.state(quiet=False)
    if state.active not in ("active", "inactive"):
        reason = f"{run.unit} is {state.active}, so it has no steady state to come back to"
        return _entry(proof, host, Verdict.INCONCLUSIVE, reason, [], {}, None)
    # No watchdog in force is 0: then nothing is seen in time, which is for the proof to find.
    watchdog_s = state.watchdog_s if isfinite(state.watchdog_s) else 0.0
    deployed = Deployed(watchdog_s, state.restart_s, owner_of_state())
    lease = Lease(
        run.id, proof.name, run.unit, str(run.evidence), run.cap_s or proof.cap_s, leases.snapshot(unit, CONFIG_DIR)
    )
    lease.arm(host, run.undo_command)
    host.note("deployed", {"watchdog_s": deployed.watchdog_s, "restart_s": deployed.restart_s})
    beside: list[threading.Thread] = []
    mutants: dict[str, dict[str, Json]] = {}
    results: list[Result] = []
    reason = ""
    try:
        if proof.in_place:
            results = _run_in_place(proof, run, lease, deployed, mutants)
        else:
            for mutant in proof.mutants:
                beside.append(_start_mutant(proof, mutant, run, lease, deployed, mutants))
            results = _run_cases(proof, run, Real(host, run.unit, lease, deployed.owner), deployed)
            for thread in beside:
                thread.join()
    except Interrupted:
        host.stop.ask()
        raise
    except Exception as error:  # noqa: BLE001 - whatever broke, the host comes first and the verdict is ERROR
        reason = f"{type(error).__name__}: {error}"
        results.append(Result("frame", Verdict.ERROR, reason))
        host.stop.ask()
    finally:
        for thread in beside:
            thread.join()
        report = leases.undo(run.id, "the proof itself", CONFIG_DIR, host) or entries.taken()
    _steady_again(run, host, was_healthy and lease.before["active"] == state.active, report)
    _observe(run, host, unit, "after")
    return _entry(proof, host, verdicts.merge(r.verdict for r in results), reason, results, mutants, report)


def owner_of_state() -> tuple[int, int]:
    """uid and gid that the scratch state must have: those of the real one."""
    about = STATE_DIR.stat()
    return about.st_uid, about.st_gid


def _run_cases(proof: Proof, run: Run, subject: Subject, deployed: Deployed) -> list[Result]:
    subject.install()
    subject.host.note("in force", {"cat": subject.unit.cat()})
    results = []
    for case in proof.cases(deployed):
        run.say(f"{proof.name}: {case.name}: {case.fault}")
        result = run_case(case, subject)
        run.say(f"{proof.name}: {case.name}: {result.verdict}{': ' if result.reason else ''}{result.reason}")
        results.append(result)
    return results


def _run_in_place(
    proof: Proof, run: Run, lease: Lease, deployed: Deployed, mutants: dict[str, dict[str, Json]]
) -> list[Result]:
    """The cases on the deployed unit, then each mutant's on the same; none when there is no PASS for them to void."""
    results = _run_cases(proof, run, InPlace(run.host.scoped(proof.name), run.unit, lease, deployed.owner), deployed)
    if verdicts.merge(result.verdict for result in results) is Verdict.PASS:
        for mutant in proof.mutants:
            host = run.host.scoped(f"{proof.name}/mutant {mutant.name}")
            subject = InPlace(host, run.unit, lease, deployed.owner, mutant=True)
            mutants[mutant.name] = _run_mutant(proof, mutant, run, subject, deployed)
            if host.stop.asked:
                raise Interrupted(f"stopped in mutant {mutant.name}")
    return results


def _start_mutant(
    proof: Proof, mutant: Mutant, run: Run, lease: Lease, deployed: Deployed, into: dict[str, dict[str, Json]]
) -> threading.Thread:
    host = run.host.scoped(f"{proof.name}/mutant {mutant.name}")
    copy = Copy(host, Unit(host, run.unit), f"{proof.name}-{mutant.name}", lease, deployed.owner)

    def work() -> None:
        into[mutant.name] = _run_mutant(proof, mutant, run, copy, deployed)

    thread = threading.Thread(target=work, name=host.scope)
    thread.start()
    return thread


def _run_mutant(proof: Proof, mutant: Mutant, run: Run, subject: Copy | InPlace, deployed: Deployed) -> dict[str, Json]:
    host = subject.host
    results: list[Result] = []
    try:
        host.note("mutant", {"name": mutant.name, "what": mutant.what})
        if isinstance(subject, Copy):
            mutant.make(subject)
        subject.install()
        host.note("in force", {"cat": subject.unit.cat()})
        results = [run_case(case, subject) for case in mutant.cases(deployed)]
        said, why = verdicts.of_mutant(results)
    except Interrupted:
        said, why = Verdict.ERROR, "interrupted"
    except Exception as error:  # noqa: BLE001 - a mutant that cannot be made shows nothing: void, never FAIL
        said, why = Verdict.ERROR, f"{type(error).__name__}: {error}"
    finally:
        subject.stop()
    entry = entries.of_mutant(mutant.name, mutant.what, said, why, results)
    host.note("mutant judged", entry)
    run.say(f"{proof.name}: mutant {mutant.name}: {said}: {why}")
    return entry


def _observe(run: Run, host: Host, unit: Unit, when: str) -> bool:
    """Health and pressure, for the buglog; True when the operator's engine calls itself healthy."""
    state = unit.state()
    if state.active == "active":
        health = host.look(*run.HEALTH)
        said, rc = (health.stdout or health.stderr).strip(), health.rc
    else:  # nobody to ask; and opening a database at rest would leave its -shm and -wal there
        said, rc = f"not asked: {state.active}", -1
    psi = pressure(state.control_group)
    host.note("observed", {"when": when, "health": said, "health_rc": rc, "psi": psi, "host": facts()})
    return rc == 0


def _steady_again(run: Run, host: Host, was_healthy: bool, report: dict[str, Json] | None) -> None:
    """An engine that was healthy before has to be so again, else the host is not as it was."""
    if not (was_healthy and report):
        return
    try:
        host.wait("the operator's engine healthy again", _HEALTHY_S, lambda: host.look(*run.HEALTH, quiet=True).rc == 0)
    except (Waited, Interrupted) as error:
        report["restored"] = False
        report["problems"].append(str(error))


def _entry(
    proof: Proof, host: Host, verdict: Verdict, reason: str, results: Sequence[Result],
    mutants: dict[str, dict[str, Json]], report: dict[str, Json] | None,
) -> dict[str, Json]:  # fmt: skip
    entry = entries.of_proof(proof, verdict, reason, results, mutants, report)
    host.recorder.write("verdict", scope=host.scope, data=entry, sync=True)
    return entry
