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
    lambda found, witness, n: of_checks("case", found, witness, n, 1),
    st.lists(checks, max_size=4),
    st.sampled_from([None, {}, {"state": "T"}]),
    st.integers(0, 2),
)


@given(st.lists(verdicts))
def test_merge_passes_only_if_all_pass(said: list[Verdict]) -> None:
    assert (merge(said) is Verdict.PASS) == (bool(said) and set(said) == {Verdict.PASS})


@given(st.lists(verdicts, min_size=1), st.randoms())
def test_merge_is_independent_of_order(said: list[Verdict], chance: object) -> None:
    assert merge(said) is merge(reversed(said)) is merge([merge(said), *said])


@given(st.lists(verdicts, min_size=1))
def test_fail_outweighs_everything(said: list[Verdict]) -> None:
    assert (merge(said) is Verdict.FAIL) == (Verdict.FAIL in said)


@given(st.lists(checks), st.sampled_from([None, {}, "", {"state": "T"}]), st.integers(0, 5), st.integers(1, 5))
def test_pass_needs_witness_samples_and_checks(found: list[Check], witness: object, n: int, n_min: int) -> None:
    result = of_checks("case", found, witness, n, n_min)
    if result.verdict is Verdict.PASS:
        assert witness
        assert n >= n_min
        assert found
        assert all(check.ok is True for check in found)
    if not witness or n < n_min:
        assert result.verdict is Verdict.INCONCLUSIVE
        assert result.reason


@given(st.lists(results, max_size=4))
def test_mutant_is_caught_only_at_the_guard(parts: list[Result]) -> None:
    said, why = of_mutant(parts)
    failed = [part for part in parts if part.verdict is Verdict.FAIL]
    assert (said is Verdict.FAIL) == (bool(failed) and all(part.failed_at_guard for part in failed))
    assert why
    if said is Verdict.FAIL:
        assert all(part.witness for part in failed)


@pytest.mark.holds("MUTANTS")
@given(verdicts, st.dictionaries(st.text(max_size=3), verdicts, max_size=3))
def test_uncaught_mutant_voids_a_pass(said: Verdict, mutants: dict[str, Verdict]) -> None:
    caught = all(verdict is Verdict.FAIL for verdict in mutants.values())
    merged, why = with_mutants(said, mutants)
    if said is Verdict.PASS:
        assert (merged is Verdict.PASS) == caught == (why == "")
    else:
        assert merged is said
