"""The pipeline: four stages connected by three channels, how they start and how they drain at a stop."""

import time
from collections.abc import Callable

from hybrid_engine.config.load import Config
from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.accounting import FeedState, StageCounters, heartbeat_fields
from hybrid_engine.domain.run_state import read_run_state
from hybrid_engine.ingest.stage import IngestStage
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.cpu_affinity import CpuAffinity
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.runtime.log import Logger
from hybrid_engine.stages.adapter import ExecutionAdapter
from hybrid_engine.stages.admission import AdmissionQueue
from hybrid_engine.stages.channel import HEARTBEAT_S, Channel
from hybrid_engine.stages.execution import ExecutionStage
from hybrid_engine.stages.persist import PersistStage
from hybrid_engine.stages.stage import Stage
from hybrid_engine.stages.strategy import Strategy, StrategyStage
from hybrid_engine.storage.store import Store

# At a stop the waiting ticks are drained for DRAIN_S, then the rest of them is dropped; what was admitted then has
# STORE_S to be stored. While the database is locked, giving up takes another 1.4 s. TimeoutStopSec=10 must be longer.
DRAIN_S = 5.0
STORE_S = 2.0

log = Logger("hybrid_engine")


class Pipeline:
    """Creates and starts the stages; `wake` is called when one ends. Raises as `check_target` of a replay."""

    def __init__(
        self, config: Config, store: Store, strategy: Strategy, adapter: ExecutionAdapter, wake: Callable[[], None]
    ) -> None:
        settings, engine, sizes = config.settings, config.settings.engine, config.settings.channels
        self.counters = StageCounters()
        self.feed = FeedState()
        self.admission = AdmissionQueue(
            sizes.tick, sample_every=engine.sample_every, admit_wait_ms=engine.admit_wait_ms, first_ids=store.first_ids
        )
        signals, rows = Channel(sizes.signal, wake_when_empty=True), Channel(sizes.persist)
        self.ingest = self._make_ingest(config, store)
        self.persist = PersistStage(store, self.admission, rows, self.counters, self.feed, engine)
        self.stages: tuple[Stage, ...] = (
            self.ingest,
            StrategyStage(strategy, self.admission, signals, self.counters),
            ExecutionStage(settings, adapter, signals, rows, self.counters),
            self.persist,
        )
        for stage in reversed(self.stages):
            stage.on_end = wake
            stage.start()
        self.cpu_affinity = CpuAffinity(self.stages, self.ingest)

    def _make_ingest(self, config: Config, store: Store) -> IngestStage:
        # Each mode imports what it needs: SYNTHETIC and REPLAY load no network code.
        parts = config, self.admission, self.feed
        if config.settings.engine.ingest_mode == "SYNTHETIC":
            from hybrid_engine.ingest.synthetic import SyntheticIngest

            return SyntheticIngest(*parts)
        if config.settings.engine.ingest_mode == "REPLAY":
            from hybrid_engine.ingest.replay import ReplayIngest, check_target

            check_target(config.settings, store)
            return ReplayIngest(*parts)
        from hybrid_engine.ingest.feed import FeedIngest

        return FeedIngest(*parts, holds=read_run_state(store.last_state).holds)

    @property
    def failure(self) -> BaseException | None:
        """The exception that ended a stage early; of several, that of the stage nearest to the sources."""
        return next((stage.failure for stage in self.stages if stage.failure is not None), None)

    @property
    def stuck_stages(self) -> list[str]:
        """Names of the stages that have shown no sign of life for too long."""
        return [stage.name for stage in self.stages if stage.stuck]

    def heartbeat_fields(self) -> dict[str, object]:
        """The log fields of HEARTBEAT and FINAL METRICS; the terms of the accounting are of one moment."""
        return heartbeat_fields(self.admission.snapshot(), self.counters, self.feed)

    def reload(self, engine: EngineSettings, sample_every: int) -> int:
        """Apply the reloadable settings and the sampling. Returns `received` when the sampling count restarts."""
        self.ingest.settings = self.persist.settings = engine
        return self.admission.set_sampling(sample_every, engine.admit_wait_ms, now_ms())

    def drain(self, heartbeat: Callable[[], None]) -> StorageError | None:
        """Let the stages end within DRAIN_S + STORE_S. Returns a StorageError when admitted ticks are not stored."""
        start = time.monotonic()
        self.ingest.stop()
        if not self._wait_for_end(start + DRAIN_S, heartbeat):
            dropped = self.admission.drop_waiting(now_ms())
            log.warn("the drain took too long, what waited is dropped", dropped=dropped)
            if not self._wait_for_end(start + DRAIN_S + STORE_S, heartbeat):
                self.persist.give_up.set()
                self.persist.join(1.0)
        unstored = self.admission.snapshot().admitted - self.counters.ticks_stored
        if not unstored:
            return None
        why = f": {self.persist.failure}" if self.persist.failure else ""
        return StorageError(f"{unstored} admitted ticks could not be stored before the stop had to end{why}")

    def _wait_for_end(self, deadline: float, heartbeat: Callable[[], None]) -> bool:
        """Whether the stages ended in time. Not waited for: those in front of a failed stage, which never end."""
        while self.persist.is_alive() and time.monotonic() < deadline:
            heartbeat()
            failed = [stage.failure is not None for stage in self.stages]
            if any(failed) and not any(stage.is_alive() for stage in self.stages[failed.index(True) :]):
                return True
            self.persist.join(min(HEARTBEAT_S, 0.02))
        return not self.persist.is_alive()
