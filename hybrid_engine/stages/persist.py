"""Persist: the end of the street. Whole chains go into the store, in order, with the counters of the moment.

A transaction ends only in front of a tick. That holds without looking at the rows: channels split a hand-over only in
front of a tick, so whenever the inbox was taken empty the last chain is whole. Whatever was taken in one go goes into
one transaction.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.counters import FeedState, StageCounters
from hybrid_engine.domain.events import Event, Order, Signal, Tick, Trade
from hybrid_engine.domain.gaps import Gap
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.runtime.log import Logger, Throttle
from hybrid_engine.stages.admission import AdmissionQueue
from hybrid_engine.stages.channel import BEAT_S, Channel
from hybrid_engine.stages.stage import Stage
from hybrid_engine.storage.database import Locked
from hybrid_engine.storage.store import Batch, Store

# Between two slices of what is too old: at most 20,000 ticks a second go, more than the house can take in.
SLICE_EVERY_S = 0.05
# What a full batch leaves over waits no longer than this for more: a burst's last rows are stored with it.
AFTER_A_BURST_S = 0.05

log = Logger("hybrid_engine.persist")


class PersistStage(Stage):
    """The one writer.

    `blocked_since`: when commits began to meet a lock, `failing_since`: when they began to fail (monotonic seconds);
    both None while they pass.
    """

    def __init__(
        self,
        store: Store,
        admission: AdmissionQueue,
        inbox: Channel,
        counters: StageCounters,
        feed: FeedState,
        settings: EngineSettings,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__("persist", None, on_end)
        self._store = store
        self._admission = admission
        self._inbox = inbox
        self._counters = counters
        self._feed = feed
        self.settings = settings
        self.give_up = threading.Event()
        self.blocked_since: float | None = None
        self.failing_since: float | None = None
        self._batch = Batch.empty()
        self._gaps: dict[int, Gap] = {}
        self._first_row_at = 0.0
        self._patience_s = float("inf")
        self._written_at = time.monotonic()
        self._expire_at = self._written_at
        self._throttle = Throttle()

    def work(self) -> None:
        while True:
            events = self._inbox.take(self._wait_s(), self._wanted)
            self.heartbeat()
            if events:
                self._add(events)
            elif self._inbox.finished:
                self._flush()
                return
            if len(self._batch) >= self.settings.batch_rows or time.monotonic() >= self._due_at():
                self._flush()
            if self._expires and time.monotonic() >= self._expire_at and not self._inbox.qsize():
                self._expire()

    def _add(self, events: Sequence[Event]) -> None:
        if not self._batch:
            self._first_row_at = time.monotonic()
        batch = self._batch
        put: dict[type[Event], Callable[[Any], None]] = {
            Tick: batch.ticks.append,
            Signal: batch.signals.append,
            Order: batch.orders.append,
            Trade: batch.trades.append,
        }
        for event in events:
            put[type(event)](event)

    def _due_at(self) -> float:
        # Without rows the counters still go out at each heartbeat: they are how a reader sees a quiet engine alive.
        if self._batch:
            return self._first_row_at + min(self._patience_s, self.settings.flush_interval_ms / 1000)
        return self._written_at + self.settings.heartbeat_interval_secs

    @property
    def _wanted(self) -> int:
        # The first row starts the clock of its batch; then there is time until the batch is full.
        return max(1, self.settings.batch_rows - len(self._batch)) if self._batch else 1

    def _wait_s(self) -> float:
        next_at = min(self._due_at(), self._expire_at) if self._expires else self._due_at()
        return min(BEAT_S, max(0.0, next_at - time.monotonic()))

    def _flush(self) -> None:
        """Commit what is pending, trying until it is done, the deadline has passed, or the stop cannot wait."""
        while True:
            books, gaps = self._admission.ledger()
            self._gaps.update((gap.id, gap) for gap in gaps)
            try:
                self._store.write(self._batch, books, self._counters, self._feed, self._gaps.values())
                break
            except Locked as error:
                self._counters.lock_waits += 1
                self.blocked_since = self.blocked_since or time.monotonic()
                self.failing_since = None
                self._complain("the database is locked, waiting for it", error)
            except StorageError as error:
                self._counters.persist_errors += 1
                self.failing_since = self.failing_since or time.monotonic()
                self.blocked_since = None
                self._complain("cannot write to the database, trying again", error)
                if time.monotonic() - self.failing_since >= self.settings.storage_deadline_s:
                    raise StorageError(f"{error}; for {self.settings.storage_deadline_s:g} s") from error
                self.give_up.wait(BEAT_S)
            self.heartbeat()
            if self.give_up.is_set():
                raise StorageError("the stop had to end before the database could be written")
        self.heartbeat()
        self.blocked_since = self.failing_since = None
        counters, batch = self._counters, self._batch
        counters.ticks_stored += len(batch.ticks)
        counters.signals_stored += len(batch.signals)
        counters.orders_stored += len(batch.orders)
        counters.trades_stored += len(batch.trades)
        counters.persist_count += len(batch)
        log.debug("batch flushed", persisted=len(batch))
        self._patience_s = AFTER_A_BURST_S if len(batch) >= self.settings.batch_rows else float("inf")
        self._batch = Batch.empty()
        self._gaps.clear()
        self._written_at = time.monotonic()

    @property
    def _expires(self) -> bool:
        # A replay's rows carry the times of the earlier run: they would be gone as soon as they are stored.
        return self.settings.retention_days > 0 and self.settings.ingest_mode != "REPLAY"

    def _expire(self) -> None:
        """One slice of what is too old, while nothing waits; trouble with it ends nothing."""
        pause_s = self.settings.heartbeat_interval_secs
        try:
            gone = self._store.expire(self.settings.retention_days)
            self._counters.rows_expired += gone.rows
            pause_s = SLICE_EVERY_S if gone.more else pause_s
        except Locked as error:
            self._complain("the database is locked, nothing old is deleted for now", error)
        except StorageError as error:
            self._counters.persist_errors += 1
            self._complain("cannot delete what is older than retention_days", error)
        self._expire_at = time.monotonic() + pause_s

    def _complain(self, message: str, error: Exception) -> None:
        held = self._throttle.ready()
        if held is not None:
            log.warn(message, error=str(error), held_back=held)
