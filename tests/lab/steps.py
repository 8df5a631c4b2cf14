"""The steps of a proof, by name: known before it runs, recognised in its recording while it runs.

A step is a boundary of the frame: the lease, the installed scratch run, each case's steady state, fault, witness and
release, the same of each copy and mutant beside it, and the undo. `Tracker` says of each event which step it begins.
"""

from __future__ import annotations

from typing import Any

from proofs.experiment.case import Deployed, Proof

# What a unit promises has no say in which cases there are.
_DEPLOYED = Deployed(watchdog_s=10.0, restart_s=2.0, owner=(0, 0))
_CASE = ("steady", "inject", "witnessed", "release")
LEASE, ARMED, UNDO, UNDONE, VERDICT = "lease", "armed", "undo", "undone", "verdict"
_BY_KIND = {"deployed": ARMED, "undone": UNDONE, "verdict": VERDICT}
_BY_KIND |= {"mutant": "made", "in force": "in force", "witness": "witnessed", "timeline": "release"}


def steps(proof: Proof) -> list[str]:
    """Every step of a proof, its mutants' behind its own, which run at the same time."""
    steps = [LEASE, ARMED, "in force"]
    for case in proof.cases(_DEPLOYED):
        part = proof.scope(case.name).partition("/")[2]
        steps += [f"{part}: in force"] if part else []
        steps += [f"{part}/{case.name}: {step}" if part else f"{case.name}: {step}" for step in _CASE]
    for mutant in proof.mutants:
        steps += [f"mutant {mutant.name}: made", f"mutant {mutant.name}: in force"]
        steps += [f"mutant {mutant.name}/{case.name}: {step}" for case in mutant.cases(_DEPLOYED) for step in _CASE]
    return [*steps, UNDO, UNDONE, VERDICT]


class Tracker:
    """Follows one proof's events."""

    def __init__(self, proof: str) -> None:
        self._proof = proof
        self._case: dict[str, str] = {}  # scope -> the case that it is in

    def feed(self, event: dict[str, Any]) -> str | None:
        """The step that this event begins; None for an event within one."""
        scope, _, part = str(event["scope"]).partition("/")
        if scope != self._proof:
            return None
        kind, data = event["kind"], event["data"]
        if kind == "case":
            self._case[part] = data["case"]
            return self._of_case(part, "steady")
        if kind == "intent":
            return self._intent(part, event)
        step = _BY_KIND.get(kind)
        if step in _CASE:
            return self._of_case(part, step)
        return f"{part}: {step}" if step and part not in ("", "undo") else step

    def _intent(self, part: str, event: dict[str, Any]) -> str | None:
        result = event["stdout"]
        if part == "undo":
            return UNDO if result.startswith("undo, by") else None
        if result.startswith("fault: ") and not event["argv"]:
            return self._of_case(part, "inject")
        return LEASE if not part and isinstance(event["data"], dict) and "cap_s" in event["data"] else None

    def _of_case(self, part: str, step: str) -> str:
        return f"{part}/{self._case[part]}: {step}" if part else f"{self._case[part]}: {step}"
