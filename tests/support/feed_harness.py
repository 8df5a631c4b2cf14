"""The real feed and the real admission queue in this process; a test plays the exchanges and reads the ticks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from hybrid_engine.config.load import Config
from hybrid_engine.config.settings import EngineSettings, Settings
from hybrid_engine.config.sources import Source
from hybrid_engine.domain.accounting import FeedState, Gap
from hybrid_engine.domain.events import Tick
from hybrid_engine.ingest.feed import FeedIngest
from hybrid_engine.ingest.source_state import SourceState
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.stages.admission import AdmissionQueue
from tests.support.process import wait_until
from tests.support.scripted_exchange import ScriptedExchange


def source(
    name: str, exchange: ScriptedExchange, *symbols: str, priority: int = 1, stream: str = "btcusdt@trade"
) -> Source:
    return Source(name, exchange.url(stream), "binance", symbols, priority, "")


class FeedHarness:
    """Runs the feed inside a `with`; `ticks`: all that was admitted so far."""

    def __init__(self, *sources: Source, **settings: Any) -> None:
        defaults = {"dead_after_s": 30.0, "stale_after_s": 30.0, "failback_after_s": 30.0, "network_deadline_s": 60.0}
        self.admission = AdmissionQueue(100_000, sample_every=1, admit_wait_ms=0)
        self.feed = FeedState()
        engine = EngineSettings(**{**defaults, **settings})
        config = Config(Settings(engine=engine), {}, sources, Path())
        self.ingest = FeedIngest(config, self.admission, self.feed)
        self._ticks: list[Tick] = []
        self._gaps: dict[int, Gap] = {}
        self._lock = threading.Lock()

    @property
    def ticks(self) -> list[Tick]:
        with self._lock:
            self._ticks += [event for event in self.admission.take(0) if isinstance(event, Tick)]
            return list(self._ticks)

    def source(self, name: str) -> SourceState:
        """The feed's state of a source."""
        return next(source for source in self.ingest._sources if source.name == name)

    def ids(self, name: str = "") -> list[int | None]:
        """The exchange ids of the ticks, or of those from the source `name`."""
        return [tick.exchange_id for tick in self.ticks if name in ("", tick.source)]

    def gaps(self, kind: str) -> list[Gap]:
        """The gaps of a kind, closed and open."""
        with self._lock:
            self._gaps.update((gap.id, gap) for gap in self.admission.take_changes()[1])
            return [gap for gap in self._gaps.values() if gap.kind == kind]

    def wait_until(self, condition: Callable[[], object], description: str = "") -> None:
        """Wait until `condition` holds; raise the feed's failure where it ended meanwhile."""

        def check() -> object:
            if self.ingest.failure is not None:
                raise self.ingest.failure
            return condition()

        wait_until(check, description or "the condition that the test waits for")

    def wait_active(self, names: str) -> None:
        """Wait until `names`, as in HEARTBEAT, are the active sources."""
        self.wait_until(lambda: self.feed.source == names, f"{names} to be active; active is {self.feed.source!r}")

    def sleep(self, seconds: float) -> None:
        """Let time pass in which nothing may happen."""
        time.sleep(seconds)

    def __enter__(self) -> FeedHarness:
        self.ingest.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.ingest.stop()
        self.ingest.join(10)
        assert not self.ingest.is_alive()
        counters = self.admission.snapshot()
        self.admission.close_gaps(now_ms(), for_good=True)
        assert sum(gap.missed or 0 for gap in self.gaps("missed")) == counters.missed
        assert sum(gap.missed or 0 for gap in self.gaps("duplicate")) == counters.duplicate
