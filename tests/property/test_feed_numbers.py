"""What an exchange's numbers tell of what never came, in whatever order they come."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_engine.exchanges import Mark
from hybrid_engine.ingest.sequence_gaps import LATE_S, WAITING, SequenceGap, SequenceGaps, SequenceTracker


@pytest.mark.holds("MISSED")
@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=1, max_size=30),
    st.integers(1, 10**15),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_holes_are_found_exactly_and_nothing_else(
    messages: list[list[int]], start: int, lasting: bool, chance: random.Random
) -> None:
    """Each number of a list says how far the next mark is from the one before: 1 is no hole."""
    numbers = SequenceTracker()
    number, missed, first = start, 0, True
    for steps in messages:
        marks = []
        for step in steps:
            missed += 0 if first else step - 1
            number += step
            first = False
            length = chance.randrange(3)
            marks.append(Mark("X", number, number + length, lasting))
            number += length
        chance.shuffle(marks)  # exchanges do not promise order inside a message
        found = sum(last - first + 1 for _, first, last, _, came in numbers.observe(marks) if not came)
        again = numbers.observe(marks)  # a repetition
        assert [told for told in again if not told.came] == []
        missed -= found
        assert missed == 0
    if not lasting:
        numbers.new_socket(lambda symbol: True)
        assert left_out(numbers, Mark("X", 5, 5, False)) == []
    else:
        numbers.new_socket(lambda symbol: True)
        assert left_out(numbers, Mark("X", number + 3, number + 3, True)) == [("X", 2)]
        numbers.new_socket(lambda symbol: False)
        assert left_out(numbers, Mark("X", number + 9, number + 9, True)) == []


def left_out(numbers: SequenceTracker, *marks: Mark) -> list[tuple[str, int]]:
    """How many numbers are missing in front of these marks, by symbol."""
    return [(symbol, last - first + 1) for symbol, first, last, _, came in numbers.observe(marks) if not came]


@pytest.mark.holds("MISSED")
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 8), st.randoms(use_true_random=False))
def test_what_comes_late_in_whatever_order_is_not_missed(steps: list[int], reach: int, chance: random.Random) -> None:
    """Each number of a list says how many are left out for good behind one that is sent; those come out of order."""
    sent, missed, number = [], 0, 1000
    for step in steps:
        sent.append(number)
        number += 1 + step
        missed += step
    missed -= steps[-1]  # behind the last there is nothing that could tell
    first, last = sent[0], sent[-1]
    middle = [(at + chance.uniform(0, reach), at) for at in sent[1:-1]]
    numbers, holes = SequenceTracker(), SequenceGaps()
    for late_number in [first, *(at for _, at in sorted(middle)), last, chance.choice(sent)]:
        for symbol, low, high, _, came in numbers.observe([Mark("X", late_number, late_number, True)]):
            if came:
                holes.came("X", low, high)
            else:
                holes.add(SequenceGap("X", "one", symbol, [(low, high)], 1, 2, found_at=100.0))
    holes.came("Y", 0, 10**9)  # of another source, or another socket
    assert list(holes.over(100.0 + LATE_S / 2)) == []
    assert sum(hole.count for hole in holes.over(100.0 + LATE_S)) == missed
    assert list(holes.over(float("inf"))) == []


@pytest.mark.holds("MEMORY")
def test_so_many_holes_and_pieces_are_kept_open() -> None:
    holes = SequenceGaps()
    for number in range(0, 4 * WAITING, 2):
        holes.add(SequenceGap("X", "one", "X", [(number, number)], 1, 2, 100.0))
    assert len(list(holes.over(100.0))) == WAITING
    holes = SequenceGaps()
    holes.add(SequenceGap("X", "one", "X", [(0, 10**6)], 1, 2, 100.0))
    for number in range(1, 10**4, 2):
        holes.came("X", number, number)
    (hole,) = holes.over(float("inf"))
    assert len(hole.pieces) == WAITING
    assert hole.count == 10**6 + 1 - (WAITING - 1)


def test_numbers_that_begin_anew_or_jump_beyond_reason_are_no_hole() -> None:
    numbers = SequenceTracker()
    assert left_out(numbers, Mark("X", 1_000_000, 1_000_000, True)) == []
    assert left_out(numbers, Mark("X", 1, 1, True)) == []
    assert left_out(numbers, Mark("X", 4, 4, True)) == [("X", 2)]
    assert left_out(numbers, Mark("X", 10**15, 10**15, True)) == []
    # A mark that covers nothing tells of the numbers below it.
    assert left_out(numbers, Mark("X", 10**15 + 4, 10**15 + 3, True)) == [("X", 3)]
    assert left_out(numbers, Mark("X", 10**15 + 4, 10**15 + 4, True)) == []
    # Two symbols, and the socket's own numbers, do not meet.
    assert left_out(numbers, Mark("Y", 5, 5, True), Mark("", 0, 0, False)) == []
