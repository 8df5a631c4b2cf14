"""Whatever the parts of a proof say, PASS comes only of PASS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.verdict import Check, Result, Verdict, merge, of_checks, of_mutant, with_mutants

verdicts = st.sampled_from(list(Verdict))
checks = st.builds(
    Check,
    name=st.just("c"),
    measured=st.integers(),
    bound=st.integers(),
    ok=st.sampled_from([True, False, None]),
    guard=st.booleans(),
)
results = st.builds(
    lambda checks, witness, n: of_checks("case", checks, witness, n, 1),
    st.lists(checks, max_size=4),
    st.sampled_from([None, {}, {"state": "T"}]),
    st.integers(0, 2),
)


@given(st.lists(verdicts))
def test_merge_passes_only_if_all_pass(verdicts: list[Verdict]) -> None:
    assert (merge(verdicts) is Verdict.PASS) == (bool(verdicts) and set(verdicts) == {Verdict.PASS})


@given(st.lists(verdicts, min_size=1), st.randoms())
def test_merge_is_independent_of_order(verdicts: list[Verdict], chance: object) -> None:
    assert merge(verdicts) is merge(reversed(verdicts)) is merge([merge(verdicts), *verdicts])


@given(st.lists(verdicts, min_size=1))
def test_fail_outweighs_everything(verdicts: list[Verdict]) -> None:
    assert (merge(verdicts) is Verdict.FAIL) == (Verdict.FAIL in verdicts)


@given(st.lists(checks), st.sampled_from([None, {}, "", {"state": "T"}]), st.integers(0, 5), st.integers(1, 5))
def test_pass_needs_witness_samples_and_checks(checks: list[Check], witness: object, n: int, n_min: int) -> None:
    result = of_checks("case", checks, witness, n, n_min)
    if result.verdict is Verdict.PASS:
        assert witness
        assert n >= n_min
        assert checks
        assert all(check.ok is True for check in checks)
    if not witness or n < n_min:
        assert result.verdict is Verdict.INCONCLUSIVE
        assert result.reason


@given(st.lists(results, max_size=4))
def test_mutant_is_caught_only_at_the_guard(parts: list[Result]) -> None:
    verdict, why = of_mutant(parts)
    failed = [part for part in parts if part.verdict is Verdict.FAIL]
    assert (verdict is Verdict.FAIL) == (bool(failed) and all(part.failed_at_guard for part in failed))
    assert why
    if verdict is Verdict.FAIL:
        assert all(part.witness for part in failed)


@pytest.mark.holds("MUTANTS")
@given(verdicts, st.dictionaries(st.text(max_size=3), verdicts, max_size=3))
def test_uncaught_mutant_voids_a_pass(verdict: Verdict, mutants: dict[str, Verdict]) -> None:
    caught = all(verdict is Verdict.FAIL for verdict in mutants.values())
    merged, why = with_mutants(verdict, mutants)
    if verdict is Verdict.PASS:
        assert (merged is Verdict.PASS) == caught == (why == "")
    else:
        assert merged is verdict
