"""A proof's entry in the statement, from the results of its cases, its mutants and the undo.

Pure: the host's run of a proof and the verifier's recomputation both call this, so that there is one rule and not two.
"""

from collections.abc import Mapping, Sequence

from proofs import verdict as verdicts
from proofs.experiment.case import Proof
from proofs.verdict import Json, Result, Verdict

Entry = dict[str, Json]


def taken() -> Entry:
    """What the undo reports when another (the timer's) took the lease while the proof still ran: whatever was measured
    afterwards was measured on nobody knows what."""
    return {"by": "another", "restored": False, "away_s": 0.0, "problems": ["the lease ended under the proof"]}


def of_proof(
    proof: Proof,
    verdict: Verdict,
    reason: str,
    results: Sequence[Result],
    mutants: Mapping[str, Entry],
    report: Entry | None,
) -> Entry:
    """The proof's verdict once restoring and the mutants have been looked at.

    Args:
        verdict, reason: what the cases came to, or why there are none.
        mutants: by name, as `of_mutant` gives them; one of the proof's that is not there voids a PASS.
        report: the undo's; None when nothing was ever disturbed.
    """
    restored = bool(report and report["restored"])
    if report is not None and not restored:
        verdict, reason = verdicts.merge([verdict, Verdict.FAIL]), "not restored: " + "; ".join(report["problems"])
    verdict_of = {name: Verdict(entry["verdict"]) for name, entry in mutants.items()}
    each = {mutant.name: verdict_of.get(mutant.name, Verdict.ERROR) for mutant in proof.mutants}
    verdict, void = verdicts.with_mutants(verdict, each)
    worst = [result.reason for result in results if result.verdict is verdict and result.reason]
    return {
        "name": proof.name,
        "claim": proof.claim,
        "verdict": str(verdict),
        "reason": void or reason or "; ".join(worst),
        "measured": proof.headline(results),
        "bound": proof.bound,
        "n": sum(result.n for result in results),
        "witness": {result.case: result.witness for result in results},
        "restored": restored,
        "away_s": report["away_s"] if report else 0.0,
        "mutant": _merged([mutants[m.name] for m in proof.mutants if m.name in mutants]),
        "cases": [result.as_json() for result in results],
    }


def of_mutant(name: str, what: str, verdict: Verdict, reason: str, results: Sequence[Result]) -> Entry:
    cases = [result.as_json() for result in results]
    return {"name": name, "what": what, "verdict": str(verdict), "reason": reason, "cases": cases}


def _merged(mutants: Sequence[Entry]) -> Entry:
    """One verdict for all mutants of a proof: FAIL, the wanted one, only if every one of them failed."""
    if not mutants:
        return {"verdict": "NOT RUN", "each": []}
    escaped = [Verdict(entry["verdict"]) for entry in mutants if entry["verdict"] != Verdict.FAIL]
    return {"verdict": str(verdicts.merge(escaped) if escaped else Verdict.FAIL), "each": list(mutants)}
