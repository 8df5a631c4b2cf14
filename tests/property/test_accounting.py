"""The accounting balances and the order is kept for any sequence of events: real stages, channels and database."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from hybrid_engine.domain.events import MarketTrade
from tests.support.accounting import check_finished, check_snapshot, rows
from tests.support.pipeline import RunningStages, nothing

SYMBOLS = ("BTC/USD", "ETH/USD")
SOURCES = ("one", "two")

# A trade: its symbol, and its id at the exchange; few ids, so that many repeat.
ids = st.none() | st.integers(0, 30)
trades = st.lists(st.tuples(st.sampled_from(SYMBOLS), ids), min_size=1, max_size=12)
steps = st.one_of(
    st.tuples(st.just("offer"), st.sampled_from(SOURCES), trades),
    st.tuples(st.just("offer"), st.sampled_from(SOURCES), trades),
    st.tuples(st.just("reject"), st.sampled_from(SOURCES), st.sampled_from(SYMBOLS)),
    st.tuples(st.just("reload"), st.integers(1, 4), st.sampled_from([0.0, 1.0])),
    st.tuples(st.just("heartbeat")),
    st.tuples(st.just("down"), st.sampled_from(SOURCES), st.sampled_from(SYMBOLS)),
    st.tuples(st.just("up")),
    st.tuples(st.just("hold")),
    st.tuples(st.just("release")),
    st.tuples(st.just("stop")),
    st.tuples(st.just("look")),
)


class Ledger:
    """The expected counters, computed in the simplest way."""

    def __init__(self, sample_every: int) -> None:
        self.every = sample_every
        self.received = self.rejected = self.duplicate = self.passed = 0
        self.spans: list[tuple[int, Counter[str]]] = [(sample_every, Counter())]
        self.known: dict[tuple[str, str, int], MarketTrade] = {}
        self.offered = 0

    def offer(self, source: str, items: list[tuple[str, int | None]]) -> list[MarketTrade]:
        trades = []
        for symbol, number in items:
            self.received += 1
            self.offered += 1
            # The price is the trade's position in the input, so that the rows show their order.
            trade = MarketTrade(symbol, float(self.offered), 1.0, number, 1_700_000_000_000 + self.offered)
            if number is not None:
                known = self.known.setdefault((source, symbol, number), trade)
                if known is not trade:
                    trades.append(known)  # all of it is repeated
                    self.duplicate += 1
                    continue
            trades.append(trade)
            self.spans[-1][1][symbol] += 1
        return trades

    @property
    def processed(self) -> int:
        """The sum of floor(n / N) over all spans, symbol by symbol."""
        return sum(count // every for every, observed in self.spans for count in observed.values())

    @property
    def sampled_out(self) -> int:
        return sum(count - count // every for every, observed in self.spans for count in observed.values())


@pytest.mark.holds("ACCOUNTING")
@settings(max_examples=120)
@given(
    st.lists(steps, min_size=6, max_size=30),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 3),
    st.tuples(st.integers(2, 6), st.integers(4, 9), st.integers(1, 9)),
)
def test_accounting_of_any_interleaving(
    script: list[tuple[object, ...]], capacity: int, sample_every: int, signal_every: int, sizes: tuple[int, int, int]
) -> None:
    with tempfile.TemporaryDirectory(prefix="books-") as folder:
        db = Path(folder) / "books.db"
        signal_size, persist_size, batch_rows = sizes
        pipeline = RunningStages(
            db,
            tick_capacity=capacity,
            signal_capacity=signal_size,
            persist_capacity=persist_size,
            sample_every=sample_every,
            signal_every=signal_every,
        )
        # Everything is committed at once, so an incomplete chain would be committed, too.
        pipeline.persist.settings = replace(pipeline.settings, batch_rows=batch_rows, flush_interval_ms=0.0)
        try:
            expected, stopped = play(script, pipeline, sample_every)
        finally:
            pipeline.close()
        run = check_finished(db)
        result = {name: run[name] for name in ("received", "rejected", "duplicate", "sampled_out")}
        assert result == {name: getattr(expected, name) for name in result}
        assert run["admitted"] + run["dropped"] == expected.processed
        stopped_rows = rows(db, "SELECT coalesce(sum(count), 0) FROM gaps WHERE kind = 'stop'")
        assert stopped_rows == [(stopped,)]
        check_order(db, signal_every)
        event(f"dropped: {run['dropped'] > 0}, vetoed: {run['risk_vetoes'] > 0}, stopped: {stopped > 0}")


def play(script: list[tuple[object, ...]], pipeline: RunningStages, sample_every: int) -> tuple[Ledger, int]:
    """Execute the script. Returns the expected counters, and how many ticks were dropped by a stop."""
    admission, expected, stopped = pipeline.admission, Ledger(sample_every), 0
    with closing(sqlite3.connect(f"{pipeline.db.as_uri()}?mode=ro", uri=True, isolation_level=None)) as reader:
        for moment, (what, *args) in enumerate(script, 1):
            at = 1_700_000_000_000 + moment
            if what == "offer":
                source, items = str(args[0]), args[1]
                assert isinstance(items, list)
                admission.offer_trades(source, expected.offer(source, items), at, nothing)
            elif what == "reject":
                expected.received += 1
                expected.rejected += 1
                admission.count_loss("rejected", str(args[0]), str(args[1]), at)
            elif what == "reload":
                every, wait_ms = args
                assert isinstance(every, int)
                assert isinstance(wait_ms, float)
                assert admission.set_sampling(every, wait_ms, at) == expected.received
                expected.spans.append((every, Counter()))
            elif what == "heartbeat":
                admission.close_gaps(at)
            elif what == "down":
                admission.begin_silence(str(args[0]), str(args[1]), at)
            elif what == "up":
                admission.end_silence(at)
            elif what == "hold":
                pipeline.strategy.free.clear()
            elif what == "release":
                pipeline.strategy.free.set()
            elif what == "stop":
                stopped += admission.drop_waiting(at)
            else:
                check_snapshot(reader, 1)
            books = admission.snapshot()
            lost = books.sampled_out + books.rejected + books.duplicate + books.dropped
            assert books.received == expected.received == lost + books.waiting + books.admitted
            assert books.waiting <= pipeline.tick_capacity
    return expected, stopped


def check_order(db: Path, signal_every: int) -> None:
    """Ticks are stored in the order of the input, each with what it caused."""
    places = [price for (price,) in rows(db, "SELECT price FROM ticks ORDER BY id")]
    assert places == sorted(places)
    assert len(set(places)) == len(places)
    ticks = [number for (number,) in rows(db, "SELECT id FROM ticks ORDER BY id")]
    # The periodic strategy counts admitted ticks, which are exactly the stored ones.
    assert [number for (number,) in rows(db, "SELECT id FROM signals ORDER BY id")] == ticks[
        signal_every - 1 :: signal_every
    ]
    sides = [side for (side,) in rows(db, "SELECT side FROM signals ORDER BY id")]
    assert sides == [("BUY", "SELL")[n % 2] for n in range(len(sides))]
    assert rows(db, "SELECT o.id FROM orders o JOIN ticks k ON k.id = o.id WHERE o.price <> k.price") == []
    assert rows(db, "SELECT s.id FROM signals s JOIN ticks k ON k.id = s.id WHERE created_ms <> received_ms") == []
