"""Strategies, and the stage that runs one on every tick.

A strategy is any object with `on_tick(tick) -> Signal | None`. The config key engine.strategy names it: `periodic`,
which ships, or `module:factory`, where `factory(engine_settings)` returns the object.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Protocol

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.accounting import StageCounters
from hybrid_engine.domain.events import BUY, SELL, Event, Signal, Tick
from hybrid_engine.runtime.errors import ConfigError
from hybrid_engine.stages.channel import Channel
from hybrid_engine.stages.stage import REST_S, TransformStage


class Strategy(Protocol):
    """Gets every admitted tick, in order, in one thread. It must be deterministic: a replay has to repeat it."""

    def on_tick(self, tick: Tick) -> Signal | None:
        """The signal for a tick, or None. `Signal.of(tick, ...)` makes one with the right id, symbol and time."""


class Periodic:
    """A signal every `every` ticks, BUY and SELL in turn: it exercises the pipeline and is no trading idea."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._ticks = 0
        self._side = SELL

    def on_tick(self, tick: Tick) -> Signal | None:
        self._ticks += 1
        if self._ticks % self._every:
            return None
        self._side = SELL if self._side == BUY else BUY
        return Signal.of(tick, self._side, size=0.1, reason="PERIODIC_TRIGGER", confidence=0.75)


def load_strategy(settings: EngineSettings) -> Strategy:
    """The strategy that `engine.strategy` names. Raises ConfigError when it cannot be loaded."""
    if settings.strategy == "periodic":
        return Periodic(settings.signal_every_n_ticks)
    where = f'engine.strategy = "{settings.strategy}"'
    module_name, _, factory_name = settings.strategy.partition(":")
    if not module_name or module_name.startswith(".") or not factory_name:
        raise ConfigError(f'{where}: must be "periodic" or "module:factory"')
    try:
        factory: Callable[[EngineSettings], Strategy] = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}: cannot be loaded: {error}") from error
    if not callable(factory):
        raise ConfigError(f"{where}: {factory_name} is not a factory, it cannot be called")
    try:
        strategy = factory(settings)
    except TypeError as error:
        raise ConfigError(f"{where}: the factory does not accept the settings: {error}") from error
    if not callable(getattr(strategy, "on_tick", None)):
        raise ConfigError(f"{where}: the object that the factory returns has no on_tick(tick)")
    return strategy


class StrategyStage(TransformStage):
    """Runs the strategy on every tick, and checks the signals that it returns."""

    def __init__(self, strategy: Strategy, inbox: Channel, outbox: Channel, counters: StageCounters) -> None:
        super().__init__("strategy", inbox, outbox, counters, REST_S)
        self._strategy = strategy

    def transform(self, events: Sequence[Event]) -> Sequence[Event]:
        out: list[Event] = []
        for event in events:
            out.append(event)
            if not isinstance(event, Tick):
                continue
            signal = self._strategy.on_tick(event)
            self.heartbeat()
            if signal is not None:
                _check_signal(signal, event, type(self._strategy).__name__)
                self._counters.signal_count += 1
                out.append(signal)
        return out


def _check_signal(signal: Signal, tick: Tick, strategy: str) -> None:
    """Raises ValueError for a signal that no order can be made of: a bug of the strategy, found before it is stored."""
    if type(signal) is not Signal:
        raise ValueError(f"strategy {strategy} returned {signal} for {tick}: it must be a Signal")
    if (signal.id, signal.symbol, signal.created_ms) != (tick.id, tick.symbol, tick.received_ms):
        raise ValueError(f"strategy {strategy} returned {signal} for {tick}: id, symbol and time must be the tick's")
    if signal.side not in (BUY, SELL) or not 0 < signal.size < float("inf") or not 0 <= signal.confidence <= 1:
        rule = "the side must be BUY or SELL, the size positive and finite, the confidence from 0 to 1"
        raise ValueError(f"strategy {strategy} returned {signal}: {rule}")
