"""The real stages behind the real admission queue, on a real database; the test takes the place of ingest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybrid_engine.config.settings import EngineSettings, RiskCaps, Settings
from hybrid_engine.domain.accounting import FeedState, StageCounters
from hybrid_engine.domain.events import FILLED, Signal, Tick
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.stages.adapter import WITHOUT_NETWORK, ExecutionAdapter
from hybrid_engine.stages.admission import AdmissionQueue
from hybrid_engine.stages.channel import Channel
from hybrid_engine.stages.execution import ExecutionStage
from hybrid_engine.stages.persist import PersistStage
from hybrid_engine.stages.strategy import Periodic, Strategy, StrategyStage
from hybrid_engine.storage.store import Batch, RunInfo, Store


class CheckedStore(Store):
    """A store that checks that each transaction contains whole chains only."""

    def write(self, batch: Batch, *rest: Any) -> None:
        created = [{event.id for event in part} for part in (batch.ticks, batch.signals, batch.orders)]
        filled = {order.id for order in batch.orders if order.status == FILLED}
        assert created[0] >= created[1] == created[2], f"a transaction ends inside a chain: {batch}"
        assert filled == {trade.id for trade in batch.trades}, f"a transaction ends inside a chain: {batch}"
        super().write(batch, *rest)


INFO = RunInfo("0", "digest", "config", "SHADOW", "MOCK_WS", 1)


class PausableStrategy:
    """A strategy that can be paused, so that the tick buffer fills."""

    def __init__(self, inner: Strategy) -> None:
        self._inner = inner
        self.free = threading.Event()
        self.free.set()

    def on_tick(self, tick: Tick) -> Signal | None:
        self.free.wait()
        return self._inner.on_tick(tick)


def nothing() -> None:
    """A heartbeat or wakeup without an effect."""


@dataclass
class RunningStages:
    """Every stage but ingest, running. `close` drains them and ends the run with 0."""

    db: Path
    tick_capacity: int = 4
    signal_capacity: int = 2
    persist_capacity: int = 4
    sample_every: int = 1
    signal_every: int = 2
    caps: RiskCaps = field(default_factory=lambda: RiskCaps(max_exposure_usd=1.0, max_symbol_exposure_usd=0.6))
    settings: EngineSettings = field(
        default_factory=lambda: EngineSettings(batch_rows=3, flush_interval_ms=2.0, heartbeat_interval_secs=0.1)
    )
    admit_wait_ms: float = 0.0
    adapter: ExecutionAdapter = WITHOUT_NETWORK["SHADOW"]
    on_end: Callable[[], None] = nothing

    def __post_init__(self) -> None:
        self.store = CheckedStore(self.db)
        self.store.begin_run(INFO, now_ms())
        self.counters = StageCounters()
        self.feed = FeedState()
        self.admission = AdmissionQueue(
            self.tick_capacity,
            sample_every=self.sample_every,
            admit_wait_ms=self.admit_wait_ms,
            first_ids=self.store.next_ids(),
        )
        self.strategy = PausableStrategy(Periodic(self.signal_every))
        settings = Settings(mode="SHADOW", risk_caps=self.caps)
        signals, rows = Channel(self.signal_capacity), Channel(self.persist_capacity)
        self.persist = PersistStage(self.store, self.admission, rows, self.counters, self.feed, self.settings)
        self.stages = (
            StrategyStage(self.strategy, self.admission, signals, self.counters),
            ExecutionStage(settings, self.adapter, signals, rows, self.counters),
            self.persist,
        )
        for stage in self.stages:
            stage.on_end = self.on_end
            stage.start()

    def close(self) -> None:
        """Do what ingest does last, wait for the stages, and end the run."""
        self.strategy.free.set()
        self.admission.close_gaps(now_ms(), for_good=True)
        self.admission.close()
        deadline = time.monotonic() + 30
        while any(stage.is_alive() for stage in self.stages):
            self.raise_failure()
            assert time.monotonic() < deadline, [stage.name for stage in self.stages if stage.is_alive()]
            self.persist.join(0.005)
        self.raise_failure()
        self.store.end_run(0, now_ms())
        self.store.close()

    def raise_failure(self) -> None:
        """Raise what ended a stage early, because the stages in front of it would wait for ever."""
        for stage in self.stages:
            if stage.failure is not None:
                raise stage.failure

    def close_store(self) -> None:
        """Close the database after a stage failed and persist ended."""
        self.persist.join(10)
        assert not self.persist.is_alive()
        self.store.close()
