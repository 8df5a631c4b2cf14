"""The street: four stages on three channels, how it starts and how it runs dry."""

import time
from collections.abc import Callable
from pathlib import Path

from hybrid_engine.config.load import Config
from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.counters import FeedState, StageCounters, report
from hybrid_engine.ingest.stage import IngestStage
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.cpu_affinity import CpuAffinity
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.runtime.log import Logger
from hybrid_engine.stages.adapter import ExecutionAdapter
from hybrid_engine.stages.admission import AdmissionQueue
from hybrid_engine.stages.channel import BEAT_S, Channel
from hybrid_engine.stages.execution import ExecutionStage
from hybrid_engine.stages.persist import PersistStage
from hybrid_engine.stages.risk import RiskBook
from hybrid_engine.stages.stage import Stage
from hybrid_engine.stages.strategy import Strategy, StrategyStage
from hybrid_engine.storage.store import Store

# A stop: what waits is drained for so long, then the rest of it is dropped; then what was admitted has so long to be
# stored. Giving up takes another 1.4 s while the database is locked, and TimeoutStopSec=10 has to come after it all.
DRAIN_S = 5.0
LAST_S = 2.0

log = Logger("hybrid_engine")


class Pipeline:
    """Wired and started at once; `wake` is called when a stage ends. Raises ConfigError (a replay that cannot be)."""

    def __init__(
        self, config: Config, store: Store, strategy: Strategy, adapter: ExecutionAdapter, wake: Callable[[], None]
    ) -> None:
        settings, engine = config.settings, config.settings.engine
        first_tick, first_gap = store.first_ids
        self.counters = StageCounters()
        self.feed = FeedState()
        self.admission = AdmissionQueue(
            settings.channels.tick,
            sample_every=engine.sample_every,
            admit_wait_ms=engine.admit_wait_ms,
            first_tick_id=first_tick,
            first_gap_id=first_gap,
        )
        signals, rows = Channel(settings.channels.signal, lazy=True), Channel(settings.channels.persist)
        self.ingest = self._make_ingest(config, store, wake)
        self.persist = PersistStage(store, self.admission, rows, self.counters, self.feed, engine, wake)
        self.stages: tuple[Stage, ...] = (
            self.ingest,
            StrategyStage(strategy, self.admission, signals, self.counters, wake),
            ExecutionStage(settings.mode, adapter, RiskBook(settings.risk_caps), signals, rows, self.counters, wake),
            self.persist,
        )
        for stage in reversed(self.stages):
            stage.start()
        self.one_cpu = CpuAffinity(self.stages)

    def _make_ingest(self, config: Config, store: Store, wake: Callable[[], None]) -> IngestStage:
        # Each mode imports what it needs: SYNTHETIC and REPLAY load no network code at all.
        settings, engine = config.settings, config.settings.engine
        if engine.ingest_mode == "SYNTHETIC":
            from hybrid_engine.ingest.synthetic import SyntheticIngest

            return SyntheticIngest(settings.app.symbol, self.admission, self.feed, engine, wake)
        if engine.ingest_mode == "REPLAY":
            from hybrid_engine.ingest.replay import ReplayIngest, check_target

            check_target(engine, Path(settings.app.db_path), store)
            return ReplayIngest(self.admission, self.feed, engine, wake)
        from hybrid_engine.ingest.feed import FeedIngest

        return FeedIngest(config.sources, settings.app.symbol, self.admission, self.feed, engine, wake)

    @property
    def failure(self) -> BaseException | None:
        """What ended a stage early; of several, the one nearest to the source."""
        return next((stage.failure for stage in self.stages if stage.failure is not None), None)

    @property
    def stuck(self) -> list[str]:
        """Names of the stages that have shown no sign of life for too long."""
        return [stage.name for stage in self.stages if stage.stuck]

    def report(self) -> dict[str, object]:
        """The fields of HEARTBEAT and FINAL METRICS, the books among them taken at one moment."""
        return report(self.admission.snapshot(), self.counters, self.feed)

    def blocked_s(self) -> float:
        """Seconds for which commits have met a lock, 0 while they pass."""
        since = self.persist.blocked_since
        return 0.0 if since is None else time.monotonic() - since

    def reload(self, engine: EngineSettings, sample_every: int) -> int:
        """Take over the reloadable settings, losing no tick; `sample_every` is what pressure makes of theirs.

        Returns `received` where the sampling count restarts.
        """
        self.ingest.settings = self.persist.settings = engine
        return self.admission.resample(sample_every, engine.admit_wait_ms, now_ms())

    def drain(self, alive: Callable[[], None]) -> StorageError | None:
        """Stop ingest and run dry within DRAIN_S + LAST_S, calling `alive` meanwhile.

        Returns the error of admitted ticks that could not be stored, None when every one was.
        """
        began = time.monotonic()
        self.ingest.stop()
        if not self._ran_dry(began + DRAIN_S, alive):
            dropped = self.admission.drop_waiting(now_ms())
            log.warn("the drain took too long, what waited is dropped", dropped=dropped)
            if not self._ran_dry(began + DRAIN_S + LAST_S, alive):
                self.persist.give_up.set()
                self.persist.join(1.0)
        unstored = self.admission.snapshot().admitted - self.counters.ticks_stored
        if not unstored:
            return None
        cause = self.persist.failure
        why = f": {cause}" if cause else ""
        return StorageError(f"{unstored} admitted ticks could not be stored before the stop had to end{why}")

    def _ran_dry(self, deadline: float, alive: Callable[[], None]) -> bool:
        """Whether everything ended in time that still can. What is in front of a stage that failed never will."""
        while self.persist.is_alive() and time.monotonic() < deadline:
            alive()
            failed = [stage.failure is not None for stage in self.stages]
            if any(failed) and not any(stage.is_alive() for stage in self.stages[failed.index(True) :]):
                return True
            self.persist.join(min(BEAT_S, 0.02))
        return not self.persist.is_alive()
