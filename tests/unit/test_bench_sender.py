"""The benchmark's sender at a rate: what is due at one moment leaves in one go, and each frame once."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import cast

import pytest

from tests.benchmarks import sender
from tests.benchmarks.sender import IN_ONE_GO, Line


class Wire:
    """A line that notes the ids that are sent on it; only sleeping and its sending move the clock."""

    def __init__(self, symbol: str, clock: SimpleNamespace, takes_ns: int) -> None:
        self.symbol, self._clock, self._takes_ns = symbol, clock, takes_ns
        self.sends: list[list[int]] = []

    def send(self, piece: bytes) -> None:
        self.sends.append([int(number) for number in re.findall(rb'"a":(\d+),', piece)])
        self._clock.now += self._takes_ns


@pytest.mark.parametrize(
    ("takes_ms", "most"), [(0, 1), (3, 3), (10_000, IN_ONE_GO // 2)], ids=["quick", "late", "stalled"]
)
def test_each_frame_is_sent_once_with_those_that_are_due(
    monkeypatch: pytest.MonkeyPatch, takes_ms: int, most: int
) -> None:
    clock = SimpleNamespace(now=10**12)

    def sleep(seconds: float) -> None:
        clock.now += round(seconds * 1e9)

    time = SimpleNamespace(monotonic_ns=lambda: clock.now, time_ns=lambda: clock.now, sleep=sleep)
    monkeypatch.setattr(sender, "time", time)
    wires = [Wire(symbol, clock, takes_ms * 1_000_000) for symbol in ("A", "B")]
    first, last = sender.paced([cast(Line, wire) for wire in wires], 199, 1000.0)
    sent = sorted(number for wire in wires for ids in wire.sends for number in ids)
    assert len(sent) == len(set(sent)) == 199
    assert (sent[0], sent[-1]) == (first + 1, last)  # where the clock stood still since the start
    assert [sum(map(len, wire.sends)) for wire in wires] == [99, 100]
    assert max(len(ids) for wire in wires for ids in wire.sends) == most
