"""The real feed in front of the real door, in this process: a test is the exchanges and reads what was admitted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.config.sources import Source
from hybrid_engine.domain.counters import FeedState
from hybrid_engine.domain.events import Tick
from hybrid_engine.domain.gaps import Gap
from hybrid_engine.ingest.feed import FeedIngest
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.stages.admission import AdmissionQueue
from tests.support.process import wait_until
from tests.support.talker import Talker


def source(name: str, talker: Talker, *symbols: str, priority: int = 1, stream: str = "btcusdt@trade") -> Source:
    return Source(name, talker.url(stream), "binance", symbols, priority, "")


class Feeding:
    """Runs until the end of a `with`; `ticks`: everything admitted so far."""

    def __init__(self, *sources: Source, **settings: Any) -> None:
        quick = {"dead_after_s": 30.0, "stale_after_s": 30.0, "failback_after_s": 30.0, "network_deadline_s": 60.0}
        self.admission = AdmissionQueue(100_000, sample_every=1, admit_wait_ms=0)
        self.feed = FeedState()
        self.ingest = FeedIngest(
            sources, "BTC/USD", self.admission, self.feed, EngineSettings(**{**quick, **settings}), lambda: None
        )
        self._ticks: list[Tick] = []
        self._gaps: dict[int, Gap] = {}
        self._lock = threading.Lock()

    @property
    def ticks(self) -> list[Tick]:
        with self._lock:
            self._ticks += [event for event in self.admission.take(0) if isinstance(event, Tick)]
            return list(self._ticks)

    def ids(self, name: str = "") -> list[int | None]:
        """The exchange's ids of the ticks, of one source where it is named."""
        return [tick.exchange_id for tick in self.ticks if name in ("", tick.source)]

    def gaps(self, kind: str) -> list[Gap]:
        """Every gap of a kind, closed ones and open ones."""
        with self._lock:
            self._gaps.update((gap.id, gap) for gap in self.admission.ledger()[1])
            return [gap for gap in self._gaps.values() if gap.kind == kind]

    def until(self, holds: Callable[[], object], what: str = "") -> None:
        def ask() -> object:
            if self.ingest.failure is not None:
                raise self.ingest.failure
            return holds()

        wait_until(ask, what or "what the test waits for")

    def leads(self, name: str) -> None:
        """Wait until `name` is the source in use."""
        self.until(lambda: self.feed.source == name, f"{name} to lead; it is {self.feed.source!r}")

    def rest(self, seconds: float) -> None:
        """Let time pass in which nothing is to happen."""
        time.sleep(seconds)

    def __enter__(self) -> Feeding:
        self.ingest.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.ingest.stop()
        self.ingest.join(10)
        assert not self.ingest.is_alive()
        books = self.admission.snapshot()
        self.admission.close_gaps(now_ms(), for_good=True)
        assert sum(gap.missed or 0 for gap in self.gaps("missed")) == books.missed
        assert sum(gap.missed or 0 for gap in self.gaps("duplicate")) == books.duplicate
