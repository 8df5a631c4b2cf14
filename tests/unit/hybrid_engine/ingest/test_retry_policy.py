"""How soon a source is tried again: at most 12 times in any minute, and never before it said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_engine.ingest.retry_policy import RetryPolicy


def eager() -> RetryPolicy:
    """A policy that draws no pause."""
    return RetryPolicy(lambda low, high: low)


@pytest.mark.holds("PACE")
@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from([0.0, 0.0, 0.0, 30.0])), min_size=1, max_size=80))
def test_at_most_12_attempts_in_any_minute(script: list[tuple[float, float]]) -> None:
    """Each attempt comes some time after it is allowed, and fails, with a pause that the exchange asked for or not."""
    policy, now = eager(), 1000.0
    attempts: list[float] = []
    for late_s, hold_s in script:
        now = max(now, policy.retry_at) + late_s
        policy.record_attempt(now)
        attempts.append(now)
        policy.record_failure(now, 0.0, hold_s, 60.0)
        assert policy.retry_at >= now + hold_s
        assert policy.trial_at >= policy.retry_at
    for first, thirteenth in zip(attempts, attempts[12:], strict=False):
        assert thirteenth - first >= 60.0 * (1 - 1e-12)


@pytest.mark.holds("PACE")
def test_twelve_attempts_are_allowed_at_once() -> None:
    policy = eager()
    for _ in range(12):
        assert policy.retry_at <= 1000.0
        policy.record_attempt(1000.0)
    assert policy.retry_at == 1060.0


@pytest.mark.holds("PACE")
def test_pauses_double_up_to_half_a_minute_and_begin_anew_after_service() -> None:
    policy = RetryPolicy(lambda low, high: high)
    pauses = []
    for number in range(9):
        now = 1000.0 * (number + 1)
        policy.record_failure(now, 0.0, 0.0, 60.0)
        pauses.append(policy.retry_at - now)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    policy.record_failure(20_000.0, 5.0, 0.0, 60.0)
    assert policy.retry_at == 20_000.5
