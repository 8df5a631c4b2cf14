"""Missing sequence numbers are found exactly, in whatever order the numbers arrive."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_engine.exchanges import Mark
from hybrid_engine.ingest.sequence_gaps import LATE_S, MAX_PENDING, SequenceGap, SequenceGaps, SequenceTracker


def missing_counts(tracker: SequenceTracker, *marks: Mark) -> list[tuple[str, int]]:
    """How many numbers are missing in front of these marks, by symbol."""
    return [(event.symbol, event.last - event.first + 1) for event in tracker.observe(marks) if event.missing]


@pytest.mark.holds("MISSED")
@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=1, max_size=30),
    st.integers(1, 10**15),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_missing_numbers_are_found_exactly(
    messages: list[list[int]], start: int, lasting: bool, rng: random.Random
) -> None:
    """Each number of a list is the distance of a mark from the one before: 1 leaves none out."""
    tracker = SequenceTracker()
    number, expected, first = start, 0, True
    for steps in messages:
        marks = []
        for step in steps:
            expected += 0 if first else step - 1
            number += step
            first = False
            length = rng.randrange(3)
            marks.append(Mark("X", number, number + length, lasting))
            number += length
        rng.shuffle(marks)  # exchanges promise no order inside a message
        missing = sum(count for _, count in missing_counts(tracker, *marks))
        assert missing_counts(tracker, *marks) == []  # a repetition
        expected -= missing
        assert expected == 0
    tracker.start_connection(lambda symbol: True)
    if not lasting:
        assert missing_counts(tracker, Mark("X", 5, 5, False)) == []
    else:
        assert missing_counts(tracker, Mark("X", number + 3, number + 3, True)) == [("X", 2)]
        tracker.start_connection(lambda symbol: False)
        assert missing_counts(tracker, Mark("X", number + 9, number + 9, True)) == []


@pytest.mark.holds("MISSED")
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 8), st.randoms(use_true_random=False))
def test_late_numbers_are_not_missing(steps: list[int], reach: int, rng: random.Random) -> None:
    """Each number of a list is how many are left out behind one that is sent; those are sent out of order."""
    sent, expected, number = [], 0, 1000
    for step in steps:
        sent.append(number)
        number += 1 + step
        expected += step
    expected -= steps[-1]  # nothing behind the last one shows these
    first, last = sent[0], sent[-1]
    middle = [(at + rng.uniform(0, reach), at) for at in sent[1:-1]]
    tracker, gaps = SequenceTracker(), SequenceGaps()
    for sequence_number in [first, *(at for _, at in sorted(middle)), last, rng.choice(sent)]:
        for symbol, low, high, _, missing in tracker.observe([Mark("X", sequence_number, sequence_number, True)]):
            if missing:
                gaps.add(SequenceGap("X", "one", symbol, [(low, high)], 1, 2, detected_at=100.0))
            else:
                gaps.fill("X", low, high)
    gaps.fill("Y", 0, 10**9)  # another numbering
    assert list(gaps.pop_expired(100.0 + LATE_S / 2)) == []
    assert sum(gap.count for gap in gaps.pop_expired(100.0 + LATE_S)) == expected
    assert list(gaps.pop_expired(float("inf"))) == []


@pytest.mark.holds("MEMORY")
def test_pending_gaps_and_their_ranges_are_bounded() -> None:
    gaps = SequenceGaps()
    for number in range(0, 4 * MAX_PENDING, 2):
        gaps.add(SequenceGap("X", "one", "X", [(number, number)], 1, 2, 100.0))
    assert len(list(gaps.pop_expired(100.0))) == MAX_PENDING
    gaps = SequenceGaps()
    gaps.add(SequenceGap("X", "one", "X", [(0, 10**6)], 1, 2, 100.0))
    for number in range(1, 10**4, 2):
        gaps.fill("X", number, number)
    (gap,) = gaps.pop_expired(float("inf"))
    assert len(gap.ranges) == MAX_PENDING
    assert gap.count == 10**6 + 1 - (MAX_PENDING - 1)


def test_restarted_numbers_and_huge_jumps_are_no_gap() -> None:
    tracker = SequenceTracker()
    assert missing_counts(tracker, Mark("X", 1_000_000, 1_000_000, True)) == []
    assert missing_counts(tracker, Mark("X", 1, 1, True)) == []
    assert missing_counts(tracker, Mark("X", 4, 4, True)) == [("X", 2)]
    assert missing_counts(tracker, Mark("X", 10**15, 10**15, True)) == []
    # An empty mark shows that the numbers below it exist.
    assert missing_counts(tracker, Mark("X", 10**15 + 4, 10**15 + 3, True)) == [("X", 3)]
    assert missing_counts(tracker, Mark("X", 10**15 + 4, 10**15 + 4, True)) == []
    # Symbols, and the numbers of a connection, are independent.
    assert missing_counts(tracker, Mark("Y", 5, 5, True), Mark("", 0, 0, False)) == []
