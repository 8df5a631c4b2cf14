"""The benchmark's sender at a rate: frames that are due are sent together, each once, never in a burst."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, repeat
from types import SimpleNamespace
from typing import cast

import pytest

from tests.benchmarks import sender
from tests.benchmarks.sender import CATCH_UP, MAX_BATCH, Client

MS = 1_000_000  # nanoseconds


class Wire:
    """A connection that records which ids are sent, and when. Only sleeping and sending move the clock."""

    def __init__(self, symbol: str, clock: SimpleNamespace, takes_ns: Iterator[int]) -> None:
        self.symbol, self._clock, self._takes_ns = symbol, clock, takes_ns
        self.sends: list[list[int]] = []
        self.times: list[int] = []

    def send(self, piece: bytes) -> None:
        self.sends.append([int(number) for number in re.findall(rb'"a":(\d+),', piece)])
        self.times.append(self._clock.now)
        self._clock.now += next(self._takes_ns)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The sender's clock, in nanoseconds: `now`."""
    clock = SimpleNamespace(now=10**12)

    def sleep(seconds: float) -> None:
        clock.now += round(seconds * 1e9)

    time = SimpleNamespace(monotonic_ns=lambda: clock.now, time_ns=lambda: clock.now, sleep=sleep)
    monkeypatch.setattr(sender, "time", time)
    return clock


@pytest.mark.parametrize(
    ("takes_ms", "most"), [(0, 1), (3, 3), (10_000, MAX_BATCH // 2)], ids=["quick", "late", "stalled"]
)
def test_due_frames_are_sent_together_once(clock: SimpleNamespace, takes_ms: int, most: int) -> None:
    wires = [Wire(symbol, clock, repeat(takes_ms * MS)) for symbol in ("A", "B")]
    first, last = sender.send_paced([cast(Client, wire) for wire in wires], 199, 1000.0)
    sent = sorted(number for wire in wires for ids in wire.sends for number in ids)
    assert len(sent) == len(set(sent)) == 199
    assert (sent[0], sent[-1]) == (first + 1, last)  # the clock stood still since the start
    assert [sum(map(len, wire.sends)) for wire in wires] == [99, 100]
    assert max(len(ids) for wire in wires for ids in wire.sends) == most


def test_late_frames_are_caught_up_without_a_burst(clock: SimpleNamespace) -> None:
    """The first of 400 sends takes 100 ms, at 1,000 frames a second."""
    start, wire = clock.now, Wire("A", clock, chain([100 * MS], repeat(0)))
    sender.send_paced([cast(Client, wire)], 400, 1000.0)
    assert wire.times[1] == start + 100 * MS
    waited = [
        (later - sooner) / (len(ids) * MS / CATCH_UP)
        for sooner, later, ids in zip(wire.times[1:], wire.times[2:], wire.sends[1:], strict=False)
    ]
    assert min(waited) > 0.999
    assert len(wire.sends[1]) == MAX_BATCH
    assert wire.times[-1] == start + 399 * MS  # it is on time again, and sends one by one
    assert [len(ids) for ids in wire.sends[-90:]] == [1] * 90
