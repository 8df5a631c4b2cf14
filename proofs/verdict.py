"""Verdicts: what a proof may say, and how the verdicts of its parts become one.

Only PASS opens anything, and nothing becomes PASS by accident. A part that raised an error, a fault without effect and
a sample that is too small each prevent it; an empty list of parts is INCONCLUSIVE.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

Json = Any  # what json.loads returns; the name says in a signature that it goes into the evidence


class Verdict(StrEnum):
    PASS = "PASS"
    NOT_APPLICABLE = "NOT APPLICABLE"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"
    FAIL = "FAIL"


# Heaviest last. A FAIL is a finding and outweighs an error of the checker, which outweighs INCONCLUSIVE.
_WEIGHT = {verdict: weight for weight, verdict in enumerate(Verdict)}


def merge(verdicts: Iterable[Verdict]) -> Verdict:
    """The heaviest of the verdicts; INCONCLUSIVE for none at all.

    >>> str(merge([Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.PASS]))
    'INCONCLUSIVE'
    >>> str(merge([]))
    'INCONCLUSIVE'
    """
    return max(verdicts, key=_WEIGHT.__getitem__, default=Verdict.INCONCLUSIVE)


@dataclass(frozen=True)
class Check:
    """One measured value compared with its bound.

    ok: None when the measurement allows no answer. guard: the guard under test exists to satisfy this check; a mutant
    has to fail at one of these, not elsewhere.
    """

    name: str
    measured: Json
    bound: Json
    ok: bool | None
    guard: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.ok is None:
            return Verdict.INCONCLUSIVE
        return Verdict.PASS if self.ok else Verdict.FAIL


@dataclass(frozen=True)
class Result:
    """The result of one case of a proof."""

    case: str
    verdict: Verdict
    reason: str
    checks: tuple[Check, ...] = ()
    witness: Json = None
    n: int = 0

    def as_json(self) -> dict[str, Json]:
        return {**asdict(self), "verdict": str(self.verdict), "checks": [asdict(check) for check in self.checks]}

    @property
    def failed_at_guard(self) -> bool:
        """Whether it failed as a mutant must: at checks of the guard, and at no other."""
        failed = [check for check in self.checks if check.ok is False]
        return self.verdict is Verdict.FAIL and bool(failed) and all(check.guard for check in failed)


def of_checks(case: str, checks: Iterable[Check], witness: Json, n: int, n_min: int) -> Result:
    """Judge the case of that name. Without checks, without a witness or with fewer samples than n_min it cannot PASS.

    witness: the evidence that the fault took place; falsy when there is none. n_min: as required beforehand.
    """
    checks = tuple(checks)
    if not witness:
        return Result(case, Verdict.INCONCLUSIVE, "no witness that the fault took place", checks, witness, n)
    if n < n_min:
        return Result(case, Verdict.INCONCLUSIVE, f"{n} samples, {n_min} were asked for", checks, witness, n)
    verdict = merge(check.verdict for check in checks)
    worst = [f"{c.name}: {c.measured} (bound {c.bound})" for c in checks if c.verdict is verdict]
    reason = "" if verdict is Verdict.PASS else "; ".join(worst) or "nothing was compared"
    return Result(case, verdict, reason, checks, witness, n)


def of_mutant(results: Iterable[Result]) -> tuple[Verdict, str]:
    """The verdict of a mutant, and why: FAIL only if a case failed at a check of the guard, with the fault witnessed.

    Where a case failed elsewhere, the mutant shows nothing about the guard. That is an ERROR, which voids the proof as
    a PASS of the mutant does.
    """
    results = list(results)
    verdict = merge(result.verdict for result in results)
    if verdict is not Verdict.FAIL:
        reasons = [f"{r.case}: {r.reason}" for r in results if r.reason]
        return verdict, "; ".join(reasons) or "the guard's absence went unseen"
    failed = [r for r in results if r.verdict is Verdict.FAIL]
    if elsewhere := [r for r in failed if not r.failed_at_guard]:
        return Verdict.ERROR, f"failed elsewhere than at the guard: {elsewhere[0].case}: {elsewhere[0].reason}"
    return verdict, f"caught in {len(failed)} of {len(results)}: {failed[0].case}: {failed[0].reason}"


def with_mutants(verdict: Verdict, mutants: Mapping[str, Verdict]) -> tuple[Verdict, str]:
    """A proof's verdict with its mutants taken into account: a mutant that did not FAIL voids a PASS."""
    void = [f"{name} said {own}" for name, own in mutants.items() if own is not Verdict.FAIL]
    if void and verdict is Verdict.PASS:
        return Verdict.INCONCLUSIVE, "void, a mutant was not caught: " + ", ".join(void)
    return verdict, ""
