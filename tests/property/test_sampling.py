"""Sampling keeps each Nth trade of a symbol as it was sent, for any N and any batches, and counts the others."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_engine.domain.events import MarketTrade, Tick
from hybrid_engine.stages.admission import AdmissionQueue
from tests.support.pipeline import nothing

batches = st.lists(st.tuples(st.sampled_from(["A", "B", "C"]), st.integers(0, 400)), min_size=1, max_size=12)


def sent(symbol: str, first: int, count: int) -> list[MarketTrade]:
    return [MarketTrade(symbol, n + 0.25, n / 8 + 1, n, n * 3) for n in range(first, first + count)]


@pytest.mark.holds("SAMPLING", "ACCOUNTING")
@settings(max_examples=200)
@given(every=st.integers(1, 120), script=batches, first=st.integers(1, 30_000))
def test_each_nth_trade_of_a_symbol_is_kept(every: int, script: list[tuple[str, int]], first: int) -> None:
    queue = AdmissionQueue(10_000, sample_every=every, admit_wait_ms=0, first_ids=(first, 1))
    trades: dict[str, list[MarketTrade]] = defaultdict(list)
    for symbol, count in script:
        batch = sent(symbol, first + len(trades[symbol]), count)
        trades[symbol] += batch
        queue.offer_trades("s", batch, 7, nothing)
    counters, gaps = queue.take_changes()
    ticks = [event for event in queue.take(0) if isinstance(event, Tick)]
    for symbol, all_of_it in trades.items():
        kept = [MarketTrade(symbol, *tick[3:7]) for tick in ticks if tick.symbol == symbol]
        assert kept == all_of_it[every - 1 :: every]
    total = sum(map(len, trades.values()))
    assert (counters.received, counters.waiting) == (total, len(ticks))
    assert counters.sampled_out == total - len(ticks) == sum(gap[-1] or 0 for gap in gaps)
    assert [tick.id for tick in ticks] == list(range(first, first + len(ticks)))


@pytest.mark.holds("SAMPLING", "ACCOUNTING", "MISSED")
@pytest.mark.parametrize("every", [1, 7])
def test_no_trade_of_many_is_lost(every: int) -> None:
    queue = AdmissionQueue(50_000, sample_every=every, admit_wait_ms=0)
    trades = sent("A", 1, 45_000)
    for start in range(0, len(trades), 900):
        queue.offer_trades("s", trades[start : start + 900], 7, nothing)
    assert [tick[3:7] for tick in queue.take(0)] == [trade[1:] for trade in trades[every - 1 :: every]]
