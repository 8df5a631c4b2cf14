"""A batch is split only in front of a tick, never overfills the channel, and nothing is lost or reordered."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_engine.domain.events import Event, Order, Signal, Tick, Trade
from hybrid_engine.stages.channel import Channel, count_whole_chains


def chain(number: int, length: int) -> list[Event]:
    """A tick and up to three events that it caused."""
    tick = Tick(number, "s", "X", 1.0, 1.0, None, 1, 1)
    signal = Signal.of(tick, "BUY", 1.0, "r", 0.5)
    order = Order(number, "X", "BUY", 1.0, 1.0, "FILLED", "r", "SHADOW", 1)
    events: list[Event] = [tick, signal, order]
    return [*events, Trade(number, "X", "BUY", 1.0, 1.0, 0.0, 1)][:length]


chains = st.lists(st.lists(st.integers(1, 4), max_size=8), max_size=8)


class Watched(Channel):
    """Remembers the largest number of events that ever waited in it."""

    most = 0

    def _move_rest_in(self) -> None:
        super()._move_rest_in()
        self.most = max(self.most, self.waiting)


@pytest.mark.holds("CHAINS")
@given(chains, st.integers(4, 9))
def test_take_returns_whole_chains_in_order(hand_overs: list[list[int]], capacity: int) -> None:
    channel = Watched(capacity)
    number = 0
    given_in: list[list[Event]] = []
    for lengths in hand_overs:
        events: list[Event] = []
        for length in lengths:
            number += 1
            events += chain(number, length)
        given_in.append(events)

    def produce() -> None:
        for events in given_in:
            channel.put(events, lambda: None)
        channel.close()

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    trades: list[Event] = []
    while not channel.finished:
        part = list(channel.take(5.0))
        if part:
            assert isinstance(part[0], Tick)
            # Whole chains: no later event belongs to a chain of this batch.
            assert len(part) <= capacity
            trades += part
            expected = [event for events in given_in for event in events][: len(trades)]
            assert trades == expected
            following = [event for events in given_in for event in events][len(trades) : len(trades) + 1]
            assert all(isinstance(event, Tick) for event in following)
    producer.join(10)
    assert not producer.is_alive()
    assert trades == [event for events in given_in for event in events]
    assert channel.most <= capacity


@given(st.lists(st.integers(1, 4), min_size=1, max_size=10), st.integers(0, 45))
def test_count_whole_chains_is_maximal(lengths: list[int], room: int) -> None:
    events = [event for number, length in enumerate(lengths) for event in chain(number, length)]
    boundaries = [*(n for n, event in enumerate(events) if isinstance(event, Tick)), len(events)]
    assert count_whole_chains(events, room) == max(b for b in boundaries if b <= room)
