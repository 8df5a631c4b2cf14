"""Stages: order, failure, what the writer does with locks and broken disks, and what ships as a strategy."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine.config.settings import EngineSettings, RiskCaps
from hybrid_engine.domain.counters import StageCounters
from hybrid_engine.domain.events import FILLED, REJECTED, MarketTrade, Signal, Tick
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.stages.adapter import Execution
from hybrid_engine.stages.channel import Channel
from hybrid_engine.stages.stage import STUCK_AFTER_S, Stage
from hybrid_engine.stages.strategy import Periodic, StrategyStage, load_strategy
from hybrid_engine.storage.store import Store
from tests.support.accounting import check_finished, rows
from tests.support.pipeline import BackStreet, nothing
from tests.support.process import wait_until

CALM = EngineSettings(batch_rows=1000, flush_interval_ms=60_000.0, heartbeat_interval_secs=3600.0)


def tick(number: int) -> Tick:
    return Tick(number, "s", "X", 100.0, 1.0, number, 5, 6)


def prints(count: int) -> list[MarketTrade]:
    return [MarketTrade("X", 1.0 + n, 1.0, None, 1) for n in range(count)]


def test_the_periodic_strategy_says_what_it_always_says() -> None:
    strategy = load_strategy(EngineSettings(signal_every_n_ticks=3))
    assert isinstance(strategy, Periodic)
    made = [strategy.on_tick(tick(n)) for n in range(1, 10)]
    assert [signal.side if signal else None for signal in made] == [
        None,
        None,
        "BUY",
        None,
        None,
        "SELL",
        None,
        None,
        "BUY",
    ]
    assert made[2] == Signal(3, "X", "BUY", "PERIODIC_TRIGGER", 0.75, 0.1, 6)


def test_a_signal_stands_behind_its_tick_and_before_the_next() -> None:
    stage = StrategyStage(Periodic(2), Channel(9), Channel(9), StageCounters(), nothing)
    out = stage.transform([tick(1), tick(2), tick(3), tick(4)])
    assert [(type(event).__name__, event.id) for event in out] == [
        ("Tick", 1),
        ("Tick", 2),
        ("Signal", 2),
        ("Tick", 3),
        ("Tick", 4),
        ("Signal", 4),
    ]


class Sleeper(Stage):
    """Beats once and waits until it is let go."""

    def __init__(self) -> None:
        super().__init__("sleeper", None, nothing)
        self.go = threading.Event()

    def work(self) -> None:
        self.go.wait()


def test_a_stage_is_stuck_once_it_has_not_beaten_and_only_while_it_lives() -> None:
    stage = Sleeper()
    assert not stage.stuck
    stage.start()
    assert not stage.stuck
    began = time.monotonic()
    wait_until(lambda: stage.stuck, "stuck")
    assert time.monotonic() - began >= STUCK_AFTER_S * 0.9
    stage.heartbeat()
    assert not stage.stuck
    stage.go.set()
    stage.join(5)
    assert not stage.stuck


def test_what_stands_behind_a_stage_that_failed_is_still_stored(tmp_path: Path) -> None:
    class Breaks:
        def on_tick(self, tick: Tick) -> Signal | None:
            if tick.id == 4:
                raise ZeroDivisionError
            return None

    pipeline = BackStreet(tmp_path / "x.db", tick_capacity=1, admit_wait_ms=5000)
    pipeline.strategy._inner = Breaks()
    for item in prints(4):
        pipeline.admission.offer_trades("s", [item], 1, nothing)
    strategy = pipeline.stages[0]
    strategy.join(10)
    assert isinstance(strategy.failure, ZeroDivisionError)
    for stage in pipeline.stages[1:]:
        stage.join(10)
        assert not stage.is_alive()
        assert stage.failure is None
    assert rows(pipeline.db, "SELECT max(ticks.id), max(ticks_stored), max(admitted) FROM ticks, runs") == [(3, 3, 4)]


class Answers:
    """An adapter that answers each order with the next of these statuses."""

    def __init__(self, *statuses: str) -> None:
        self._statuses = iter(statuses)

    def execute(self, signal: Signal, price: float) -> Execution:
        return Execution(next(self._statuses), "OF_TEST", price + 1, 0.25)


def test_what_the_adapter_answers_is_what_is_stored(tmp_path: Path) -> None:
    caps = RiskCaps(max_exposure_usd=1e9, max_symbol_exposure_usd=1e9)
    adapter = Answers(FILLED, REJECTED)
    pipeline = BackStreet(tmp_path / "x.db", signal_every=1, tick_capacity=9, caps=caps, adapter=adapter)
    pipeline.admission.offer_trades("s", prints(2), 1, nothing)
    pipeline.close()
    check_finished(pipeline.db)
    last = rows(pipeline.db, "SELECT price FROM ticks ORDER BY id")
    asked = "SELECT orders.id, status, reason, orders.price, trades.price, fee FROM orders LEFT JOIN trades USING (id)"
    assert rows(pipeline.db, asked) == [
        (1, FILLED, "OF_TEST", last[0][0] + 1, last[0][0] + 1, 0.25),
        (2, REJECTED, "OF_TEST", last[1][0] + 1, None, None),
    ]


def test_an_adapter_with_another_answer_ends_the_stage(tmp_path: Path) -> None:
    pipeline = BackStreet(tmp_path / "x.db", signal_every=1, adapter=Answers("MAYBE"))
    pipeline.admission.offer_trades("s", prints(1), 1, nothing)
    execution = pipeline.stages[1]
    execution.join(10)
    assert "returned status 'MAYBE'" in str(execution.failure)


def test_a_batch_is_committed_by_rows_by_time_and_at_the_end(tmp_path: Path) -> None:
    pipeline = BackStreet(tmp_path / "x.db", settings=CALM, tick_capacity=500, persist_capacity=500)
    pipeline.admission.offer_trades("s", prints(5), 1, nothing)
    wait_until(lambda: pipeline.persist._batch.ticks[4:], "five ticks in the batch")
    assert rows(pipeline.db, "SELECT received FROM runs") == [(0,)]  # nothing asks for a commit yet
    pipeline.persist.settings = EngineSettings(batch_rows=1000, flush_interval_ms=1.0)
    wait_until(lambda: rows(pipeline.db, "SELECT ticks_stored FROM runs") == [(5,)], "a commit by time")
    pipeline.persist.settings = EngineSettings(batch_rows=10, flush_interval_ms=60_000.0)
    pipeline.admission.offer_trades("s", prints(30), 1, nothing)
    wait_until(lambda: rows(pipeline.db, "SELECT ticks_stored FROM runs")[0][0] > 5, "a commit by rows")
    pipeline.persist.settings = CALM
    pipeline.close()
    assert check_finished(pipeline.db)["ticks_stored"] == 35


def test_the_counters_go_out_without_rows_at_each_heartbeat(tmp_path: Path) -> None:
    quiet = EngineSettings(sample_every=1, heartbeat_interval_secs=0.1, flush_interval_ms=60_000.0)
    pipeline = BackStreet(tmp_path / "x.db", settings=quiet, sample_every=1000)
    pipeline.admission.offer_trades("s", prints(7), 1, nothing)
    wait_until(lambda: rows(pipeline.db, "SELECT received, sampled_out FROM runs") == [(7, 7)], "the counters")
    pipeline.close()
    check_finished(pipeline.db)


def test_the_writer_waits_for_a_lock_and_says_since_when(tmp_path: Path) -> None:
    pipeline = BackStreet(tmp_path / "x.db")
    with closing(sqlite3.connect(pipeline.db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        pipeline.admission.offer_trades("s", prints(1), 1, nothing)
        wait_until(lambda: pipeline.counters.lock_waits > 2, "three tries")
        assert pipeline.persist.blocked_since is not None
        assert pipeline.persist.failing_since is None
        assert pipeline.counters.persist_errors == 0
        assert not pipeline.persist.stuck
        other.execute("COMMIT")
    wait_until(lambda: pipeline.persist.blocked_since is None, "the lock's end")
    pipeline.close()
    check_finished(pipeline.db)


class Broken(Store):
    """A store whose disk is broken while `broken` is set."""

    broken: threading.Event

    def write(self, *args: object) -> None:
        if self.broken.is_set():
            raise StorageError("the disk is full")
        super().write(*args)  # type: ignore[arg-type]


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    Broken.broken = threading.Event()
    monkeypatch.setattr("tests.support.pipeline.CheckedStore", Broken)
    return Broken.broken


def test_a_broken_disk_is_tried_again_until_its_deadline(tmp_path: Path, breaking: threading.Event) -> None:
    settings = EngineSettings(storage_deadline_s=0.6, flush_interval_ms=1.0)
    pipeline = BackStreet(tmp_path / "x.db", settings=settings)
    breaking.set()
    began = time.monotonic()
    pipeline.admission.offer_trades("s", prints(1), 1, nothing)
    wait_until(lambda: pipeline.persist.failing_since is not None, "the failure")
    pipeline.persist.join(10)
    assert time.monotonic() - began >= 0.6
    assert isinstance(pipeline.persist.failure, StorageError)
    assert "the disk is full; for 0.6 s" in str(pipeline.persist.failure)
    assert pipeline.counters.persist_errors > 1


def test_a_disk_that_works_again_has_lost_nothing(tmp_path: Path, breaking: threading.Event) -> None:
    pipeline = BackStreet(tmp_path / "x.db", settings=EngineSettings(flush_interval_ms=1.0), tick_capacity=50)
    breaking.set()
    pipeline.admission.offer_trades("s", prints(9), 1, nothing)
    pipeline.admission.count_rejected("s", "X", 1)
    wait_until(lambda: pipeline.counters.persist_errors > 1, "two failures")
    breaking.clear()
    wait_until(lambda: pipeline.persist.failing_since is None, "success")
    pipeline.close()
    assert check_finished(pipeline.db)["ticks_stored"] == 9


def test_a_stop_that_cannot_wait_ends_the_writer(tmp_path: Path, breaking: threading.Event) -> None:
    pipeline = BackStreet(tmp_path / "x.db", settings=EngineSettings(flush_interval_ms=1.0))
    breaking.set()
    pipeline.admission.offer_trades("s", prints(1), 1, nothing)
    wait_until(lambda: pipeline.counters.persist_errors > 0, "a failure")
    pipeline.persist.give_up.set()
    pipeline.persist.join(5)
    assert isinstance(pipeline.persist.failure, StorageError)


@pytest.mark.holds("S6")
def test_a_channel_waits_for_room_and_beats_meanwhile() -> None:
    channel = Channel(2)
    channel.put([tick(1), tick(2)], nothing)
    beats = threading.Event()
    producer = threading.Thread(target=lambda: channel.put([tick(3)], beats.set))
    producer.start()
    assert beats.wait(5)
    assert producer.is_alive()
    assert [event.id for event in channel.take()] == [1, 2]
    producer.join(5)
    assert [event.id for event in channel.take()] == [3]
    assert channel.take(0) == []


def test_a_lazy_channel_gives_room_when_its_consumer_comes_back_for_more() -> None:
    """And at its next beat at the latest, should the consumer not come back."""
    channel = Channel(1, wake_when_empty=True)
    channel.put([tick(1)], nothing)
    producer = threading.Thread(target=lambda: channel.put([tick(2), tick(3), tick(4)], nothing))
    producer.start()
    taken: list[int] = []
    while len(taken) < 4:
        taken += [event.id for event in channel.take(60)]
    producer.join(5)
    assert taken == [1, 2, 3, 4]


@pytest.mark.parametrize("lazy", [False, True])
def test_whoever_takes_moves_in_what_the_producer_still_holds(lazy: bool) -> None:
    """The producer of a large hand-over sleeps until all of it is in; the channel never has more than it may."""
    channel = Channel(2, wake_when_empty=lazy)
    asleep, woken, told = threading.Event(), threading.Event(), []

    class Room(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            asleep.set()
            return super().wait(60)  # no beat wakes it

        def notify(self, n: int = 1) -> None:
            told.append(n)
            super().notify(n)

    class Nothing(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            raise AssertionError("waited, and the producer holds more")

    def produce() -> None:
        channel.put([tick(number) for number in range(1, 6)], nothing)
        woken.set()

    channel._not_full = Room(channel._lock)
    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    assert asleep.wait(5)
    channel._not_empty, empty = Nothing(channel._lock), channel._not_empty
    assert [[event.id for event in channel.take(0, min_events=9)] for _ in range(2)] == [[1, 2], [3, 4]]
    channel._not_empty = empty
    assert channel.waiting == 1
    assert len(told) == (0 if lazy else 1)
    assert woken.wait(0.2 if lazy else 5) is not lazy
    assert [event.id for event in channel.take(0)] == [5]
    assert channel.take(0.01) == []
    assert woken.wait(5)


def test_a_consumer_may_wait_for_more_than_the_first_event() -> None:
    """It takes them when enough are there, when the producer has no room for more, when its time is up, at the end."""
    channel = Channel(4)
    taken: list[list[int]] = []

    def consume() -> None:
        while not channel.finished:
            taken.append([event.id for event in channel.take(60, min_events=3)])

    consumer = threading.Thread(target=consume)
    consumer.start()
    channel.put([tick(1)], nothing)
    channel.put([tick(2)], nothing)
    assert taken == []
    channel.put([tick(3)], nothing)
    wait_until(lambda: taken == [[1, 2, 3]], "three of them")
    # A chain of three does not fit beside two: without the producer's word both would wait.
    caused = Signal.of(tick(6), "BUY", 0.1, "R", 0.5)
    channel.put([tick(4), tick(5)], nothing)
    channel.put([tick(6), caused, caused._replace(id=7)], nothing)
    wait_until(lambda: [number for numbers in taken for number in numbers] == [1, 2, 3, 4, 5, 6, 6, 7], "the rest")
    channel.put([tick(8)], nothing)
    channel.close()
    consumer.join(5)
    assert taken[-1] == [8]
    channel = Channel(4)
    channel.put([tick(1)], nothing)
    assert [event.id for event in channel.take(0.01, min_events=3)] == [1]
