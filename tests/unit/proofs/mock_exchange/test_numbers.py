"""Trade numbers: each is sent once, whatever fails."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proofs.mock_exchange.schedule import Numbers


@given(st.lists(st.tuples(st.sampled_from(["send", "fail", "lose", "total"]), st.integers(1, 5)), max_size=80))
def test_each_number_is_sent_once(steps: list[tuple[str, int]]) -> None:
    """Sent or lost: each number once, in the end all of them, the lowest unsent one always next."""
    total = 40
    numbers, sent, lost = Numbers(total), list[int](), list[int]()
    for what, count in steps:
        if what == "total":
            total += count
            numbers.total = total
            continue
        batch = numbers.take(count)
        missing = sorted(set(range(1, total + 1)) - set(sent) - set(lost))
        assert batch == missing[: len(batch)]
        assert numbers.in_flight == len(batch)
        if what == "send":
            sent += batch
            numbers.sent += len(batch)
        elif what == "lose":
            lost += batch
            numbers.lost += len(batch)
        else:
            numbers.give_back(batch)
        assert (numbers.in_flight, numbers.sent, numbers.lost) == (0, len(sent), len(lost))
    while batch := numbers.take(7):
        sent += batch
        numbers.sent += len(batch)
    assert sorted(sent + lost) == list(range(1, total + 1))
    assert numbers.complete
    assert numbers.next is None
