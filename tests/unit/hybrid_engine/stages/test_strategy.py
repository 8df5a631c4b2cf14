"""The periodic strategy, and the order of ticks and signals."""

from __future__ import annotations

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
