"""What a case says of figures that a test gives it."""

from __future__ import annotations

from typing import Any

from proofs.experiment.case import Case, Deployed, judge
from proofs.verdict import Result
from tests.support.witnesses import genuine

DEPLOYED = Deployed(10.0, 2.0, (0, 0))


def with_changes(measured: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The figures with others in their place; "a.b" is b of a, and ... takes one away."""
    changed = {key: dict(value) if isinstance(value, dict) else value for key, value in measured.items()}
    for path, value in changes.items():
        outer, _, inner = path.rpartition(".")
        place = changed[outer] if outer else changed
        if value is ...:
            del place[inner]
        else:
            place[inner] = value
    return changed


def judge_with(
    case: Case, measured: dict[str, Any], changes: dict[str, Any] | None = None, witness: object = ...
) -> Result:
    """witness: a genuine one, where none is given."""
    return judge(case, genuine(case) if witness is ... else witness, with_changes(measured, changes or {}))


def verdict_of(case: Case, measured: dict[str, Any], changes: dict[str, Any]) -> str:
    """The verdict, and for a FAIL whether it is where a mutant has to fail: "FAIL at the guard" or "FAIL"."""
    result = judge_with(case, measured, changes)
    return f"{result.verdict} at the guard" if result.failed_at_guard else str(result.verdict)
