"""The periodic strategy, and the order of ticks and signals."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.accounting import StageCounters
from hybrid_engine.domain.events import Signal, Tick
from hybrid_engine.stages.channel import Channel
from hybrid_engine.stages.strategy import Periodic, StrategyStage, load_strategy


def tick(number: int) -> Tick:
    return Tick(number, "s", "X", 100.0, 1.0, number, 5, 6)


def test_periodic_strategy_signals() -> None:
    strategy = load_strategy(EngineSettings(signal_every_n_ticks=3))
    assert isinstance(strategy, Periodic)
    created = [strategy.on_tick(tick(n)) for n in range(1, 10)]
    assert [signal.side if signal else None for signal in created] == [
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
    assert created[2] == Signal(3, "X", "BUY", "PERIODIC_TRIGGER", 0.75, 0.1, 6)


def test_signal_follows_its_tick() -> None:
    stage = StrategyStage(Periodic(2), Channel(9), Channel(9), StageCounters())
    out = stage.transform([tick(1), tick(2), tick(3), tick(4)])
    assert [(type(event).__name__, event.id) for event in out] == [
        ("Tick", 1),
        ("Tick", 2),
        ("Signal", 2),
        ("Tick", 3),
        ("Tick", 4),
        ("Signal", 4),
    ]


@pytest.mark.holds("WATCHDOG")
def test_each_tick_is_a_sign_of_life() -> None:
    """A slow strategy is no stuck one, however many ticks a batch has."""
    stage = StrategyStage(Periodic(2), Channel(9), Channel(9), StageCounters())
    signs: list[int] = []
    stage.heartbeat = lambda: signs.append(1)  # type: ignore[method-assign]
    stage.transform([tick(number) for number in range(1, 8)])
    assert len(signs) == 7


class Returns:
    """A strategy that returns this signal for every tick."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal

    def on_tick(self, tick: Tick) -> Signal:
        return self._signal


GOOD = Signal(3, "X", "BUY", "R", 0.75, 0.1, 6)


@pytest.mark.holds("CHAINS")
@pytest.mark.parametrize(
    "change",
    [
        {"id": 2},
        {"symbol": "Y"},
        {"created_ms": 5},
        {"side": "HOLD"},
        {"size": 0.0},
        {"size": float("inf")},
        {"size": float("nan")},
        {"confidence": 1.5},
    ],
    ids=str,
)
def test_signal_that_no_order_can_be_made_of_ends_the_stage(change: dict[str, Any]) -> None:
    stage = StrategyStage(Returns(GOOD._replace(**change)), Channel(9), Channel(9), StageCounters())
    with pytest.raises(ValueError, match="strategy Returns returned"):
        stage.transform([tick(3)])
    assert len(StrategyStage(Returns(GOOD), Channel(9), Channel(9), StageCounters()).transform([tick(3)])) == 2


@pytest.mark.holds("CHAINS")
@pytest.mark.parametrize("count", [1, 9_999, 10_001, 40_000])
def test_every_event_of_a_batch_is_handed_on(count: int) -> None:
    inbox, outbox = Channel(50_000), Channel(50_000)
    stage = StrategyStage(Periodic(10**9), inbox, outbox, StageCounters())
    inbox.put([tick(number) for number in range(1, count + 1)], lambda: None)
    inbox.close()
    stage.start()
    stage.join(30)
    passed = []
    while not outbox.finished:
        passed += [event.id for event in outbox.take()]
    assert passed == list(range(1, count + 1))
