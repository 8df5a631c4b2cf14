"""Persist: the last stage of the pipeline. It stores whole chains, in order, with the counters of the same moment.

A transaction ends only in front of a tick. Persist need not look at the rows for that: channels split a batch only in
front of a tick, so the last chain of what one `take` returns is whole, and all of it goes into one transaction.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.accounting import FeedState, Gap, StageCounters
from hybrid_engine.domain.events import Event, Order, Signal, Tick, Trade
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.runtime.log import Logger, LogRateLimiter
from hybrid_engine.stages.admission import AdmissionQueue
from hybrid_engine.stages.channel import HEARTBEAT_S, Channel
from hybrid_engine.stages.stage import REST_S, Stage
from hybrid_engine.storage.database import DatabaseLocked
from hybrid_engine.storage.store import Batch, Store

# Pause between two slices of expired rows: at most 20,000 ticks a second are deleted, more than can be stored.
SLICE_EVERY_S = 0.05
# Rows that follow a full batch wait no longer than this: the last rows of a burst are stored soon after it.
BURST_FLUSH_S = 0.05

log = Logger("hybrid_engine.persist")


class PersistStage(Stage):
    """The only stage that writes to the database.

    `blocked_since`: when commits began to meet a lock, `failing_since`: when they began to fail (monotonic seconds);
    both are None while commits succeed. The main thread reads them, and sets `give_up` when a stop has no more time.
    """

    def __init__(
        self,
        store: Store,
        admission: AdmissionQueue,
        inbox: Channel,
        counters: StageCounters,
        feed: FeedState,
        settings: EngineSettings,
    ) -> None:
        super().__init__("persist", None)
        self._store = store
        self._admission = admission
        self._inbox = inbox
        self._counters = counters
        self._feed = feed
        self.settings = settings
        self.give_up = threading.Event()
        self.blocked_since: float | None = None
        self.failing_since: float | None = None
        self._batch = Batch()
        self._gaps: dict[int, Gap] = {}
        self._first_row_at = 0.0
        self._max_flush_delay_s = float("inf")
        self._last_commit_at = self._expire_at = time.monotonic()
        self._rate_limiter = LogRateLimiter(log)

    def work(self) -> None:
        while True:
            events = self._take()
            self.heartbeat()
            if events:
                self._add(events)
            elif self._inbox.finished:
                self._flush()
                return
            if len(self._batch) >= self.settings.batch_rows or time.monotonic() >= self._due_at():
                self._flush()
            if self._expires and time.monotonic() >= self._expire_at and not self._inbox.waiting:
                self._delete_expired()

    def _add(self, events: Sequence[Event]) -> None:
        if not self._batch:
            first = events[0]  # a tick: batches are split in front of one
            waited_s = (now_ms() - first.received_ms) / 1000 if isinstance(first, Tick) else 0.0
            # The bounds are for a clock that was set, and for the ticks of a replay.
            self._first_row_at = time.monotonic() - min(REST_S, max(0.0, waited_s))
        batch = self._batch
        append: dict[type[Event], Callable[[Any], None]] = {
            Tick: batch.ticks.append,
            Signal: batch.signals.append,
            Order: batch.orders.append,
            Trade: batch.trades.append,
        }
        for event in events:
            append[type(event)](event)

    def _due_at(self) -> float:
        # Without rows the counters are still stored at each heartbeat: from them a reader sees that the engine runs.
        if self._batch:
            return self._first_row_at + min(self._max_flush_delay_s, self.settings.flush_interval_ms / 1000)
        return self._last_commit_at + self.settings.heartbeat_interval_secs

    def _take(self) -> Sequence[Event]:
        next_at = min(self._due_at(), self._expire_at) if self._expires else self._due_at()
        # The first row starts the clock of its batch, so it is taken at once; then waiting for a full batch is enough.
        min_events = max(1, self.settings.batch_rows - len(self._batch)) if self._batch else 1
        return self._inbox.take(min(HEARTBEAT_S, max(0.0, next_at - time.monotonic())), min_events)

    def _flush(self) -> None:
        """Commit the batch. Tries until it succeeds, until the storage deadline, or until `give_up` is set."""
        while True:
            admission_counters, gaps = self._admission.take_changes()
            self._gaps.update((gap.id, gap) for gap in gaps)
            try:
                self._store.write(self._batch, admission_counters, self._counters, self._feed, self._gaps.values())
                break
            except DatabaseLocked as error:
                self._counters.lock_waits += 1
                self.blocked_since = self.blocked_since or time.monotonic()
                self.failing_since = None
                self._rate_limiter.warn("the database is locked, waiting for it", error=str(error))
            except StorageError as error:
                self._counters.persist_errors += 1
                self.failing_since = self.failing_since or time.monotonic()
                self.blocked_since = None
                self._rate_limiter.warn("cannot write to the database, trying again", error=str(error))
                if time.monotonic() - self.failing_since >= self.settings.storage_deadline_s:
                    raise StorageError(f"{error}; for {self.settings.storage_deadline_s:g} s") from error
                self.give_up.wait(HEARTBEAT_S)
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
        self._max_flush_delay_s = BURST_FLUSH_S if len(batch) >= self.settings.batch_rows else float("inf")
        self._batch = Batch()
        self._gaps.clear()
        self._last_commit_at = time.monotonic()

    @property
    def _expires(self) -> bool:
        # The rows of a replay have the times of the earlier run: they would be deleted as soon as they are stored.
        return self.settings.retention_days > 0 and self.settings.ingest_mode != "REPLAY"

    def _delete_expired(self) -> None:
        """Delete one slice of expired rows while nothing waits. A failure is logged and does not end the run."""
        pause_s = self.settings.heartbeat_interval_secs
        try:
            deleted = self._store.delete_expired(self.settings.retention_days)
            self._counters.rows_expired += deleted.rows
            pause_s = SLICE_EVERY_S if deleted.more else pause_s
        except DatabaseLocked as error:
            self._rate_limiter.warn("the database is locked, nothing old is deleted for now", error=str(error))
        except StorageError as error:
            self._counters.persist_errors += 1
            self._rate_limiter.warn("cannot delete what is older than retention_days", error=str(error))
        self._expire_at = time.monotonic() + pause_s
