"""The A/A run's own judgement: what counts as a flip, and how the proofs are shared out."""

from __future__ import annotations

import pytest

from proofs.catalog import PROOFS
from tests.lab.same_verdict import NONE, flipped_proofs, shares, table


@pytest.mark.parametrize(
    ("each", "flips"),
    [
        (["PASS / FAIL"] * 10, False),
        (["PASS / FAIL"] * 9 + ["INCONCLUSIVE / FAIL"], True),
        (["PASS / FAIL"] * 9 + ["PASS / ERROR"], True),
        ([NONE] * 10, True),
        ([], True),
    ],
)
def test_changed_verdict_is_a_flip(each: list[str], flips: bool) -> None:
    result = {"steady": ["FAIL / FAIL"] * 10, "stall": each}
    assert flipped_proofs(result) == (["stall"] if flips else [])
    line = next(row for row in table(result).splitlines() if row.startswith("stall "))
    assert line.split()[1] == ("FLIPPED" if flips else "same")


@pytest.mark.parametrize("labs", [1, 2, 3, 99])
def test_every_proof_runs_on_one_lab(labs: int) -> None:
    parts = shares(list(PROOFS), labs)
    assert sorted(name for part in parts for name in part) == sorted(PROOFS)
    assert len(parts) == min(labs, len(PROOFS))
    assert all(parts)
