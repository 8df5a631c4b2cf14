"""The door's own promises, one by one, without threads where none is needed."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Sequence

import pytest

from hybrid_engine.domain.deduplication import MAX_SYMBOLS, REMEMBERED_IDS, SPARE_IDS
from hybrid_engine.domain.events import Event, MarketTrade, Tick
from hybrid_engine.domain.gaps import Gap
from hybrid_engine.stages.admission import AdmissionQueue
from tests.support.pipeline import nothing


def prints(*ids: int | None, symbol: str = "X") -> list[MarketTrade]:
    return [MarketTrade(symbol, 1.0, 1.0, number, 1) for number in ids]


def admission(capacity: int = 8, every: int = 1, wait_ms: float = 0.0) -> AdmissionQueue:
    return AdmissionQueue(capacity, sample_every=every, admit_wait_ms=wait_ms, first_tick_id=100)


def ids(events: Sequence[Event]) -> list[int | None]:
    return [event.exchange_id for event in events if isinstance(event, Tick)]


@pytest.mark.holds("SAMPLING")
def test_each_nth_of_a_symbol_passes_whatever_connection_it_came_by() -> None:
    d = admission(every=3)
    d.offer_trades("one", prints(1, 2), 1, nothing)
    d.offer_trades("one", prints(1, 2, symbol="Y"), 1, nothing)
    d.offer_trades("two", prints(3, 4, 5, 6), 1, nothing)
    taken = d.take(0)
    assert ids(taken) == [3, 6]
    assert [event.id for event in taken] == [100, 101]
    assert d.snapshot().sampled_out == 6


def test_a_repeat_is_a_duplicate_of_its_source_and_symbol_and_does_not_move_the_sampling() -> None:
    d = admission(every=2)
    d.offer_trades("one", prints(1, 1, 1, 2), 1, nothing)
    assert ids(d.take(0)) == [2]
    d.offer_trades("one", prints(2, symbol="Y"), 1, nothing)
    d.offer_trades("two", prints(2), 1, nothing)  # another exchange's numbers are its own
    d.offer_trades("two", prints(None, None, None), 1, nothing)  # without a number nothing is a repeat
    books = d.snapshot()
    assert (books.received, books.duplicate, books.sampled_out, books.waiting) == (9, 2, 4, 2)


def test_ids_are_remembered_for_thousands_of_trades_and_not_for_ever() -> None:
    most = REMEMBERED_IDS + SPARE_IDS
    d = admission(capacity=most + 10)
    d.offer_trades("one", prints(*range(most)), 1, nothing)
    d.offer_trades("one", prints(0), 1, nothing)
    assert d.snapshot().duplicate == 1
    d.offer_trades("one", prints(most), 1, nothing)  # the oldest are forgotten for it
    d.offer_trades("one", prints(SPARE_IDS + 1, SPARE_IDS), 1, nothing)
    assert d.snapshot().duplicate == 2


@pytest.mark.holds("MEMORY")
def test_an_exchange_that_invents_symbols_takes_no_more_than_its_share(capsys: pytest.CaptureFixture[str]) -> None:
    d = admission(capacity=2 * MAX_SYMBOLS + 10, every=1)
    d.offer_trades("one", prints(1, symbol="X"), 1, nothing)
    for number in range(50_000):
        d.offer_trades("one", prints(number, symbol=f"made up {number}"), 5 + number, nothing)
    books, gaps = d.take_changes()
    assert books.rejected == 50_000 + 1 - MAX_SYMBOLS
    assert books.received == books.rejected + MAX_SYMBOLS
    assert books.waiting == MAX_SYMBOLS
    d.offer_trades("one", prints(1, 2, 3, symbol="made up"), 50_005, nothing)
    books, gaps = d.take_changes()
    assert books.rejected == 50_003 + 1 - MAX_SYMBOLS
    # One row for all of them, and not under a name that they chose.
    assert [gap[1:4] + gap[6:] for gap in gaps] == [("rejected", "one", "", books.rejected)]
    assert len(d._sample_positions) == MAX_SYMBOLS
    assert [len(symbols) for symbols in d._recent_ids.values()] == [MAX_SYMBOLS]
    said = capsys.readouterr().out.splitlines()
    assert 1 <= len(said) <= 3  # once in 5 s
    assert "too many symbols" in said[0]
    # Those that it had before are as well as ever, and so is another source.
    d.offer_trades("one", prints(2, 1, symbol="X"), 9, nothing)
    d.offer_trades("two", prints(1, symbol="new"), 9, nothing)
    after = d.snapshot()
    assert (after.waiting, after.duplicate) == (MAX_SYMBOLS + 2, 1)


@pytest.mark.holds("MEMORY")
def test_what_is_kept_of_a_symbol_is_small_however_long_it_trades() -> None:
    d = admission(capacity=64)

    def trade(first: int) -> None:
        for start in range(first, first + 2 * REMEMBERED_IDS, 64):
            d.offer_trades("one", prints(*range(start, start + 64)), 1, nothing)
            d.take(0)

    trade(10**15)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        trade(2 * 10**15)
        d.offer_trades("one", prints(1, symbol="Y"), 1, nothing)
        d.take(0)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < 8 * (REMEMBERED_IDS + SPARE_IDS) + 10_000  # bytes; those beyond the ids are mostly the test's


@pytest.mark.holds("S6", "I6")
def test_a_full_house_waits_once_for_a_hand_over_then_drops_the_oldest() -> None:
    d = admission(capacity=3, wait_ms=120)
    began = time.monotonic()
    d.offer_trades("one", prints(*range(10)), 5, nothing)
    waited = time.monotonic() - began
    assert 0.1 <= waited < 1.0  # once 120 ms, not seven times
    assert ids(d.take(0)) == [7, 8, 9]
    books = d.snapshot()
    assert (books.dropped, books.admitted, books.waiting) == (7, 3, 0)
    _, gaps = d.take_changes()
    assert gaps == [Gap(1, "dropped", "one", "X", 5, None, 7)]
    for first in (20, 30):  # each hand-over has a wait of its own
        began = time.monotonic()
        d.offer_trades("one", prints(*range(first, first + 4)), 6, nothing)
        assert time.monotonic() - began >= 0.1


def test_a_trade_that_is_sampled_out_needs_no_room() -> None:
    d = admission(capacity=1, every=2)
    d.offer_trades("one", prints(1, 2, 3), 1, nothing)
    assert (d.snapshot().dropped, d.snapshot().sampled_out) == (0, 2)
    assert ids(d.take(0)) == [2]


def test_room_that_comes_in_time_saves_the_tick() -> None:
    d = admission(capacity=2, wait_ms=5000)
    d.offer_trades("one", prints(1, 2), 1, nothing)
    beats: list[float] = []
    feeder = threading.Thread(daemon=True, target=lambda: d.offer_trades("one", prints(3), 1, lambda: beats.append(1)))
    feeder.start()
    taken: list[int | None] = []
    deadline = time.monotonic() + 10
    while len(taken) < 3 and time.monotonic() < deadline:
        taken += ids(d.take(0.05))
    feeder.join(5)
    assert taken == [1, 2, 3]
    assert d.snapshot().dropped == 0


def test_a_reload_that_falls_into_the_wait_is_asked_again() -> None:
    """The wait gives up the lock; the trade that waits belongs to the new count."""
    d = admission(capacity=1, wait_ms=20_000)
    d.offer_trades("one", prints(1), 1, nothing)
    waiting = threading.Event()
    feeder = threading.Thread(daemon=True, target=lambda: d.offer_trades("one", prints(2, 3, 4), 1, waiting.set))
    feeder.start()
    assert waiting.wait(10)
    assert d.set_sampling(3, 20_000, 2) == 1
    taken = ids(d.take(1))
    deadline = time.monotonic() + 10
    while feeder.is_alive() and time.monotonic() < deadline:
        taken += ids(d.take(0.05))
    taken += ids(d.take(0))
    assert taken == [1, 4]  # 2 and 3 are sampled out of the new count of three
    assert d.snapshot().sampled_out == 2


def test_evictions_in_every_second_are_what_an_overload_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("hybrid_engine.stages.admission.time.monotonic", lambda: now[0])
    d = admission(capacity=1)
    assert d.dropping_for_s() == 0
    d.offer_trades("one", prints(None, None), 1, nothing)
    for _ in range(9):
        now[0] += 1.0
        d.offer_trades("one", prints(None), 1, nothing)
        assert d.dropping_for_s() == now[0] - 1000.0
    now[0] += 1.001
    assert d.dropping_for_s() == 0  # a second without one ends it
    d.offer_trades("one", prints(None), 1, nothing)
    assert d.dropping_for_s() == 0
    now[0] += 0.5
    assert d.dropping_for_s() == 0.5


def test_a_replay_waits_for_room_and_drops_and_samples_nothing() -> None:
    d = admission(capacity=2, every=5)
    ticks = [Tick(n, "s", "X", 1.0, 1.0, n, n, n) for n in (7, 9, 30, 31, 32)]
    feeder = threading.Thread(daemon=True, target=lambda: d.offer_replayed_ticks(ticks, nothing, lambda: False))
    feeder.start()
    taken: list[Event] = []
    deadline = time.monotonic() + 10
    while len(taken) < 5 and time.monotonic() < deadline:
        part = d.take(0.1)
        assert len(part) <= 2
        taken += part
    feeder.join(5)
    assert taken == ticks
    books = d.snapshot()
    assert (books.received, books.admitted, books.dropped, books.sampled_out) == (5, 5, 0, 0)


def test_a_replay_that_is_stopped_leaves_the_rest_unbooked() -> None:
    d = admission(capacity=2)
    ticks = [Tick(n, "s", "X", 1.0, 1.0, n, n, n) for n in range(1, 6)]
    asked = iter([False, True])
    d.offer_replayed_ticks(ticks, nothing, lambda: next(asked))
    assert (d.snapshot().received, d.snapshot().waiting) == (2, 2)


@pytest.mark.parametrize("for_good", [False, True])
def test_gaps_are_closed_and_only_silences_go_on(for_good: bool) -> None:
    d = admission(every=2)
    d.count_rejected("one", "X", 10)
    d.offer_trades("one", prints(None), 11, nothing)
    d.begin_silence("one", "X", 5)
    d.begin_silence("one", "X", 6)  # still the same one
    d.close_gaps(20, for_good=for_good)
    _, gaps = d.take_changes()
    closed = {(g.kind, g.from_ms, g.to_ms, g.missed) for g in gaps if g.to_ms is not None}
    assert closed == {("rejected", 10, 10, 1), ("sampled_out", 11, 11, 1), ("down", 5, 20, None)}
    still_open = [(g.kind, g.from_ms) for g in gaps if g.to_ms is None]
    assert still_open == ([] if for_good else [("down", 20)])
    assert d.take_changes()[1] == []  # told once


def test_a_silence_ends_when_any_source_is_heard_and_a_clock_that_steps_back_makes_no_negative_gap() -> None:
    d = admission()
    d.begin_silence("one", "X", 100)
    d.begin_silence("two", "X", 110)
    d.end_silence(90)
    _, gaps = d.take_changes()
    assert [(g.source, g.from_ms, g.to_ms) for g in gaps] == [("one", 100, 100), ("two", 110, 110)]


def test_what_waits_at_a_stop_is_booked_as_dropped() -> None:
    d = admission()
    d.offer_trades("one", prints(1, 2, 3), 1, nothing)
    assert d.drop_waiting(9) == 3
    books, gaps = d.take_changes()
    assert (books.received, books.dropped, books.waiting, books.admitted) == (3, 3, 0, 0)
    assert [(g.kind, g.missed, g.to_ms) for g in gaps] == [("stop", 3, 9)]


def test_a_closed_door_still_gives_what_waits() -> None:
    d = admission()
    d.offer_trades("one", prints(1), 1, nothing)
    d.close()
    assert not d.finished
    assert ids(d.take(0)) == [1]
    assert d.finished
    assert d.take(0) == []
