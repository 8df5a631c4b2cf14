"""The admission queue: sampling, duplicates, drops, gaps and replayed ticks."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from hybrid_engine.domain.accounting import Gap
from hybrid_engine.domain.deduplication import MAX_SYMBOLS, REMEMBERED_IDS, SPARE_IDS
from hybrid_engine.domain.events import Event, MarketTrade, Tick
from hybrid_engine.stages.admission import MAX_CLOCK_DISTANCE_MS, AdmissionQueue
from tests.support.pipeline import nothing


def market_trades(*ids: int | None, symbol: str = "X") -> list[MarketTrade]:
    return [MarketTrade(symbol, 1.0, 1.0, number, 1) for number in ids]


def admission(capacity: int = 8, every: int = 1, wait_ms: float = 0.0) -> AdmissionQueue:
    return AdmissionQueue(capacity, sample_every=every, admit_wait_ms=wait_ms, first_ids=(100, 1))


def ids(events: Sequence[Event]) -> list[int | None]:
    return [event.exchange_id for event in events if isinstance(event, Tick)]


@pytest.mark.holds("SAMPLING")
def test_every_nth_trade_of_symbol_is_kept() -> None:
    d = admission(every=3)
    d.offer_trades("one", market_trades(1, 2), 1, nothing)
    d.offer_trades("one", market_trades(1, 2, symbol="Y"), 1, nothing)
    d.offer_trades("two", market_trades(3, 4, 5, 6), 1, nothing)
    trades = d.take(0)
    assert ids(trades) == [3, 6]
    assert [event.id for event in trades] == [100, 101]
    assert d.snapshot().sampled_out == 6


def test_duplicate_does_not_advance_sampling() -> None:
    d = admission(every=2)
    d.offer_trades("one", market_trades(1, 1, 1, 2), 1, nothing)
    assert ids(d.take(0)) == [2]
    d.offer_trades("one", market_trades(2, symbol="Y"), 1, nothing)
    d.offer_trades("two", market_trades(2), 1, nothing)  # ids of another source are independent
    d.offer_trades("two", market_trades(None, None, None), 1, nothing)  # a trade without an id is never a duplicate
    books = d.snapshot()
    assert (books.received, books.duplicate, books.sampled_out, books.waiting) == (9, 2, 4, 2)


@pytest.mark.holds("IDENTITY")
@pytest.mark.parametrize("change", [{"price": 2.0}, {"size": 2.0}, {"exchange_ms": 2}])
def test_number_of_another_trade_is_no_repetition(change: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    d = admission(capacity=100)
    first = market_trades(*range(1, 11))
    d.offer_trades("one", first, 1, nothing)
    other = [trade._replace(**change) for trade in first]
    assert set(d.offer_trades("one", other, 1, nothing)) == {"X"}
    assert not d.offer_trades("one", first + other, 1, nothing)
    books = d.snapshot()
    assert (books.received, books.duplicate, books.waiting) == (40, 20, 20)
    (line,) = [json.loads(line)["fields"] for line in capsys.readouterr().out.splitlines()]
    assert line.items() >= {"source": "one", "symbol": "X", "trades": 10}.items()
    assert line["message"] == "numbers are used again for other trades"


def test_time_far_from_the_clock_is_told_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    now = 2 * MAX_CLOCK_DISTANCE_MS
    d = admission(capacity=100)
    times = (now - MAX_CLOCK_DISTANCE_MS, now + MAX_CLOCK_DISTANCE_MS, now - MAX_CLOCK_DISTANCE_MS - 1, 9 * now)
    d.offer_trades("one", [MarketTrade("X", 1.0, 1.0, n, time) for n, time in enumerate(times)], now, nothing)
    assert d.snapshot().times_off == 2
    assert d.snapshot().waiting == 4  # they are stored
    (line,) = [json.loads(line)["fields"] for line in capsys.readouterr().out.splitlines()]
    assert line["message"] == "the time of a trade is more than a day from the clock"
    assert (line["symbol"], line["exchange_ms"], line["received_ms"]) == ("X", 9 * now, now)


def test_ids_remembered_for_thousands_of_trades() -> None:
    most = REMEMBERED_IDS + SPARE_IDS
    d = admission(capacity=most + 10)
    d.offer_trades("one", market_trades(*range(most)), 1, nothing)
    d.offer_trades("one", market_trades(0), 1, nothing)
    assert d.snapshot().duplicate == 1
    d.offer_trades("one", market_trades(most), 1, nothing)  # the oldest ids are forgotten now
    d.offer_trades("one", market_trades(SPARE_IDS + 1, SPARE_IDS), 1, nothing)
    assert d.snapshot().duplicate == 2


@pytest.mark.holds("MEMORY")
def test_invented_symbols_are_limited(capsys: pytest.CaptureFixture[str]) -> None:
    d = admission(capacity=2 * MAX_SYMBOLS + 10, every=1)
    d.offer_trades("one", market_trades(1, symbol="X"), 1, nothing)
    for number in range(50_000):
        d.offer_trades("one", market_trades(number, symbol=f"made up {number}"), 5 + number, nothing)
    books, gaps = d.take_changes()
    assert books.rejected == 50_000 + 1 - MAX_SYMBOLS
    assert books.received == books.rejected + MAX_SYMBOLS
    assert books.waiting == MAX_SYMBOLS
    d.offer_trades("one", market_trades(1, 2, 3, symbol="made up"), 50_005, nothing)
    books, gaps = d.take_changes()
    assert books.rejected == 50_003 + 1 - MAX_SYMBOLS
    # One row for all of them, under no invented name.
    assert [gap[1:4] + gap[6:] for gap in gaps] == [("rejected", "one", "", books.rejected)]
    assert len(d._sample_positions) == MAX_SYMBOLS
    assert [len(symbols) for symbols in d._recent_ids.values()] == [MAX_SYMBOLS]
    message = capsys.readouterr().out.splitlines()
    assert 1 <= len(message) <= 3  # once in 5 s
    assert "too many symbols" in message[0]
    # Its earlier symbols work as before, and so does another source.
    d.offer_trades("one", market_trades(2, 1, symbol="X"), 9, nothing)
    d.offer_trades("two", market_trades(1, symbol="new"), 9, nothing)
    after = d.snapshot()
    assert (after.waiting, after.duplicate) == (MAX_SYMBOLS + 2, 1)


@pytest.mark.holds("MEMORY")
def test_memory_of_symbol_is_bounded() -> None:
    d = admission(capacity=64)

    def trade(first: int) -> None:
        for start in range(first, first + 2 * REMEMBERED_IDS, 64):
            d.offer_trades("one", market_trades(*range(start, start + 64)), 1, nothing)
            d.take(0)

    trade(10**15)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        trade(2 * 10**15)
        d.offer_trades("one", market_trades(1, symbol="Y"), 1, nothing)
        d.take(0)
        remaining = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert remaining < 16 * (REMEMBERED_IDS + SPARE_IDS) + 10_000  # bytes; mostly the test's own, beside the ids


@pytest.mark.holds("S6", "I6")
def test_full_buffer_waits_once_then_drops_oldest() -> None:
    d = admission(capacity=3, wait_ms=120)
    started_at = time.monotonic()
    d.offer_trades("one", market_trades(*range(40)), 5, nothing)
    waited = time.monotonic() - started_at
    assert 0.1 <= waited < 2.0  # one wait of 120 ms, not 37
    assert ids(d.take(0)) == [37, 38, 39]
    books = d.snapshot()
    assert (books.dropped, books.admitted, books.waiting) == (37, 3, 0)
    _, gaps = d.take_changes()
    assert gaps == [Gap(1, "dropped", "one", "X", 5, None, 37)]
    for first in (50, 60):  # each batch has its own wait
        started_at = time.monotonic()
        d.offer_trades("one", market_trades(*range(first, first + 4)), 6, nothing)
        assert time.monotonic() - started_at >= 0.1


def test_sampled_out_trade_needs_no_room() -> None:
    d = admission(capacity=1, every=2)
    d.offer_trades("one", market_trades(1, 2, 3), 1, nothing)
    assert (d.snapshot().dropped, d.snapshot().sampled_out) == (0, 2)
    assert ids(d.take(0)) == [2]


def test_room_in_time_saves_tick() -> None:
    d = admission(capacity=2, wait_ms=5000)
    d.offer_trades("one", market_trades(1, 2), 1, nothing)
    beats: list[float] = []
    feeder = threading.Thread(
        daemon=True, target=lambda: d.offer_trades("one", market_trades(3), 1, lambda: beats.append(1))
    )
    feeder.start()
    trades: list[int | None] = []
    deadline = time.monotonic() + 10
    while len(trades) < 3 and time.monotonic() < deadline:
        trades += ids(d.take(0.05))
    feeder.join(5)
    assert trades == [1, 2, 3]
    assert d.snapshot().dropped == 0


def test_reload_during_wait_applies() -> None:
    """Waiting releases the lock, so the waiting trade belongs to the new sampling count."""
    d = admission(capacity=1, wait_ms=20_000)
    d.offer_trades("one", market_trades(1), 1, nothing)
    waiting = threading.Event()
    feeder = threading.Thread(daemon=True, target=lambda: d.offer_trades("one", market_trades(2, 3, 4), 1, waiting.set))
    feeder.start()
    assert waiting.wait(10)
    assert d.set_sampling(3, 20_000, 2) == 1
    trades = ids(d.take(1))
    deadline = time.monotonic() + 10
    while feeder.is_alive() and time.monotonic() < deadline:
        trades += ids(d.take(0.05))
    trades += ids(d.take(0))
    assert trades == [1, 4]  # 2 and 3 are sampled out, with the new sampling of three
    assert d.snapshot().sampled_out == 2


def test_dropping_for_s_counts_seconds_with_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("hybrid_engine.stages.admission.time.monotonic", lambda: now[0])
    d = admission(capacity=1)
    assert d.dropping_for_s() == 0
    d.offer_trades("one", market_trades(None, None), 1, nothing)
    for _ in range(9):
        now[0] += 1.0
        d.offer_trades("one", market_trades(None), 1, nothing)
        assert d.dropping_for_s() == now[0] - 1000.0
    now[0] += 1.001
    assert d.dropping_for_s() == 0  # a second without a drop ends it
    d.offer_trades("one", market_trades(None), 1, nothing)
    assert d.dropping_for_s() == 0
    now[0] += 0.5
    assert d.dropping_for_s() == 0.5


def test_replayed_ticks_wait_for_room() -> None:
    d = admission(capacity=2, every=5)
    ticks = [Tick(n, "s", "X", 1.0, 1.0, n, n, n) for n in (7, 9, 30, 31, 32)]
    feeder = threading.Thread(daemon=True, target=lambda: d.offer_replayed_ticks(ticks, nothing, lambda: False))
    feeder.start()
    trades: list[Event] = []
    deadline = time.monotonic() + 10
    while len(trades) < 5 and time.monotonic() < deadline:
        part = d.take(0.1)
        assert len(part) <= 2
        trades += part
    feeder.join(5)
    assert trades == ticks
    books = d.snapshot()
    assert (books.received, books.admitted, books.dropped, books.sampled_out) == (5, 5, 0, 0)


def test_stopped_replay_counts_no_more() -> None:
    d = admission(capacity=2)
    ticks = [Tick(n, "s", "X", 1.0, 1.0, n, n, n) for n in range(1, 6)]
    stopping = iter([False, True])
    d.offer_replayed_ticks(ticks, nothing, lambda: next(stopping))
    assert (d.snapshot().received, d.snapshot().waiting) == (2, 2)


@pytest.mark.parametrize("for_good", [False, True])
def test_silence_is_one_gap_until_it_ends(for_good: bool) -> None:
    d = admission(every=2)
    d.count_loss("rejected", "one", "X", 10)
    d.offer_trades("one", market_trades(None), 11, nothing)
    d.begin_silence("one", "X", 5)
    d.begin_silence("one", "X", 6)  # still the same gap
    d.close_gaps(20, for_good=for_good)
    _, gaps = d.take_changes()
    closed = {(g.kind, g.from_ms, g.to_ms, g.missed) for g in gaps if g.to_ms is not None}
    assert closed == {
        ("rejected", 10, 10, 1),
        ("sampled_out", 11, 11, 1),
        *([("down", 5, 20, None)] if for_good else []),
    }
    still_open = [(g.kind, g.from_ms) for g in gaps if g.to_ms is None]
    assert still_open == ([] if for_good else [("down", 5)])
    d.close_gaps(30)
    assert d.take_changes()[1] == []  # reported once
    d.end_silence(40, "X")
    assert [(g.kind, g.from_ms, g.to_ms) for g in d.take_changes()[1]] == ([] if for_good else [("down", 5, 40)])


@pytest.mark.holds("MISSED")
def test_missed_numbers_have_a_gap_of_their_length() -> None:
    d = admission()
    d.count_missed("one", "X", 3, 100, 250)
    d.count_missed("one", "X", 150, 300, 320)
    d.count_missed("one", "Y", 1, 90, 90)
    d.close_gaps(400, for_good=False)
    books, gaps = d.take_changes()
    assert (books.missed, books.received) == (154, 0)
    found = [(g.kind, g.source, g.symbol, g.from_ms, g.to_ms, g.missed) for g in gaps]
    assert found == [("missed", "one", "X", 100, 320, 153), ("missed", "one", "Y", 90, 90, 1)]


@pytest.mark.holds("FAILOVER")
def test_silence_is_as_long_as_it_lasted() -> None:
    d = admission()
    d.begin_silence("one", "X", 1000)
    d.begin_silence("two", "Y", 1500, "stale")
    d.end_silence(4700)
    _, gaps = d.take_changes()
    found = [(g.kind, g.source, g.symbol, g.from_ms, g.to_ms, g.missed) for g in gaps]
    assert found == [("down", "one", "X", 1000, 4700, None), ("stale", "two", "Y", 1500, 4700, None)]


def test_silence_ends_without_negative_gap() -> None:
    d = admission()
    d.begin_silence("one", "X", 100)
    d.begin_silence("two", "X", 110)
    d.end_silence(90)
    _, gaps = d.take_changes()
    assert [(g.source, g.from_ms, g.to_ms) for g in gaps] == [("one", 100, 100), ("two", 110, 110)]


def test_waiting_ticks_dropped_at_stop() -> None:
    d = admission()
    d.offer_trades("one", market_trades(1, 2, 3), 1, nothing)
    assert d.drop_waiting(9) == 3
    books, gaps = d.take_changes()
    assert (books.received, books.dropped, books.waiting, books.admitted) == (3, 3, 0, 0)
    assert [(g.kind, g.missed, g.to_ms) for g in gaps] == [("stop", 3, 9)]


def test_closed_queue_still_returns_waiting_ticks() -> None:
    d = admission()
    d.offer_trades("one", market_trades(1), 1, nothing)
    d.close()
    assert not d.finished
    assert ids(d.take(0)) == [1]
    assert d.finished
    assert d.take(0) == []
