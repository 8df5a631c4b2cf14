"""Stages: when a stage counts as stuck, and what happens when one fails."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from hybrid_engine.domain.accounting import StageCounters
from hybrid_engine.domain.events import MarketTrade, Signal, Tick
from hybrid_engine.stages.channel import Channel
from hybrid_engine.stages.stage import REST_S, STUCK_AFTER_S, Stage
from hybrid_engine.stages.strategy import Periodic, StrategyStage
from tests.support.accounting import rows
from tests.support.pipeline import RunningStages, nothing
from tests.support.process import wait_until


def tick(number: int) -> Tick:
    return Tick(number, "s", "X", 100.0, 1.0, number, 5, 6)


def market_trades(count: int) -> list[MarketTrade]:
    return [MarketTrade("X", 1.0 + n, 1.0, None, 1) for n in range(count)]


class Sleeper(Stage):
    """Shows one sign of life and waits for `go`."""

    def __init__(self) -> None:
        super().__init__("sleeper", None)
        self.go = threading.Event()

    def work(self) -> None:
        self.go.wait()


def test_stuck_only_without_heartbeat_while_alive() -> None:
    stage = Sleeper()
    assert not stage.stuck
    stage.start()
    assert not stage.stuck
    started_at = time.monotonic()
    wait_until(lambda: stage.stuck, "stuck")
    assert time.monotonic() - started_at >= STUCK_AFTER_S * 0.9
    stage.heartbeat()
    assert not stage.stuck
    stage.go.set()
    stage.join(5)
    assert not stage.stuck


def test_kernel_has_the_name_of_a_stage() -> None:
    stage = Sleeper()
    stage.start()
    path = Path(f"/proc/self/task/{stage.native_id}/comm")
    wait_until(lambda: path.read_text() == "sleeper\n", "the name of the thread")
    stage.go.set()
    stage.join(5)


def test_stage_works_without_a_name_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    stage = Sleeper()
    stage.go.set()
    stage.start()
    stage.join(5)
    assert stage.failure is None


def test_events_behind_failed_stage_are_stored(tmp_path: Path) -> None:
    class Breaks:
        def on_tick(self, tick: Tick) -> Signal | None:
            if tick.id == 4:
                raise ZeroDivisionError
            return None

    pipeline = RunningStages(tmp_path / "x.db", tick_capacity=1, admit_wait_ms=5000)
    pipeline.strategy._inner = Breaks()
    for item in market_trades(4):
        pipeline.admission.offer_trades("s", [item], 1, nothing)
    strategy = pipeline.stages[0]
    strategy.join(10)
    assert isinstance(strategy.failure, ZeroDivisionError)
    for stage in pipeline.stages[1:]:
        stage.join(10)
        assert not stage.is_alive()
        assert stage.failure is None
    assert rows(pipeline.db, "SELECT max(ticks.id), max(ticks_stored), max(admitted) FROM ticks, runs") == [(3, 3, 4)]
    pipeline.close_store()


@pytest.mark.parametrize("signal_every", [1, 10**9])
def test_next_stage_is_woken_without_another_tick(signal_every: int) -> None:
    """At once for a tick with a signal; within REST_S for one without, though no tick follows."""
    inbox, outbox = Channel(9), Channel(9)
    stage = StrategyStage(Periodic(signal_every), inbox, outbox, StageCounters())
    stage.start()
    woken: list[float] = []

    def consume() -> None:
        outbox.take(60)
        woken.append(time.monotonic())

    consumer = threading.Thread(target=consume)
    consumer.start()
    wait_until(lambda: outbox._not_empty._waiting, "the consumer")
    put_at = time.monotonic()
    inbox.put([tick(1)], nothing)
    consumer.join(5)
    assert woken, "nobody woke the next stage"
    assert (woken[0] - put_at >= REST_S) is (signal_every > 1)
    inbox.close()
    stage.join(5)
