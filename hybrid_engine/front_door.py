"""The tick channel: the only place where anything can be lost, and where every loss is booked.

Deciding a trade's fate and booking it happen in one locked section, so a snapshot balances at any moment and a reload
of `sample_every` falls between two trades, never into one.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from hybrid_engine.channel import BEAT_S, Channel
from hybrid_engine.metrics import Books, Gap, GapLedger
from hybrid_engine.model import Print, Tick

# How many trade ids a source and symbol are remembered by: more than any exchange repeats after a reconnect.
REMEMBERED_IDS = 4096


class _Recent:
    """The last ids of one source and symbol. Exchanges do not promise order inside a message, so a set, not a mark."""

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._order: deque[int] = deque()

    def __contains__(self, exchange_id: int | None) -> bool:
        return exchange_id in self._ids

    def add(self, exchange_id: int) -> None:
        self._ids.add(exchange_id)
        self._order.append(exchange_id)
        if len(self._order) > REMEMBERED_IDS:
            self._ids.discard(self._order.popleft())


class FrontDoor(Channel):
    """Counts, samples and admits.

    `capacity` is in ticks. Ingest waits at most `admit_wait_ms` for room, then the oldest waiting tick is dropped for
    the newest. `first_tick_id` and `first_gap_id` are the store's next free ids.
    """

    def __init__(
        self, capacity: int, *, sample_every: int, admit_wait_ms: float, first_tick_id: int = 1, first_gap_id: int = 1
    ) -> None:
        super().__init__(capacity)
        self._books = Books()
        self._gaps = GapLedger(first_gap_id)
        self._sample_every = sample_every
        self._admit_wait_s = admit_wait_ms / 1000
        self._seen: dict[str, int] = {}
        self._recent: dict[tuple[str, str], _Recent] = {}
        self._next_id = first_tick_id
        self._evicting_since = self._last_eviction = float("-inf")

    # Ingest's side ----------------------------------------------------------------------------------------------

    def offer(self, source: str, prints: Iterable[Print], received_ms: int, beat: Callable[[], None]) -> None:
        """Book trades as they came off the wire: duplicates and sampled-out ones are counted, the rest wait or evict.

        All of one hand-over share one wait of `admit_wait_ms`: they arrived together.
        """
        with self.mutex:
            deadline: float | None = None
            for item in prints:
                recent = self._recent_of(source, item)
                if recent is not None and item.exchange_id in recent:
                    self._books.received += 1
                    self._books.duplicate += 1
                    self._gaps.lose("duplicate", source, item.symbol, received_ms)
                    continue
                # The wait releases the lock, and a reload may change the sampling meanwhile: so ask again after it.
                while self._passes(item.symbol) and self._qsize() >= self.maxsize:
                    now = time.monotonic()
                    deadline = now + self._admit_wait_s if deadline is None else deadline
                    if now < deadline:
                        self.not_empty.notify()
                        self.not_full.wait(min(BEAT_S, deadline - now))
                        beat()
                    else:
                        self._evict_oldest(received_ms, now)
                self._settle(source, item, received_ms, recent)
            self.not_empty.notify()

    def offer_replayed(self, ticks: Sequence[Tick], beat: Callable[[], None], stopping: Callable[[], bool]) -> None:
        """Admit ticks of an earlier run as they are: not sampled, never evicted, for no market presses."""
        start = 0
        with self.mutex:
            while start < len(ticks) and not stopping():
                room = self.maxsize - self._qsize()
                if room <= 0:
                    self.not_full.wait(BEAT_S)
                    beat()
                    continue
                part = ticks[start : start + room]
                self._books.received += len(part)
                self._put(part)
                self.not_empty.notify()
                start += len(part)

    def reject(self, source: str, symbol: str, received_ms: int) -> None:
        """Book one trade or frame that could not be decoded."""
        with self.mutex:
            self._books.received += 1
            self._books.rejected += 1
            self._gaps.lose("rejected", source, symbol, received_ms)

    def miss(self, source: str, symbol: str, count: int, from_ms: int, at_ms: int) -> None:
        """Book so many of the exchange's numbers that never came; they are no term of the books."""
        with self.mutex:
            self._books.missed += count
            self._gaps.lose("missed", source, symbol, at_ms, count, from_ms)

    def silence_begins(self, source: str, symbol: str, from_ms: int, kind: str = "down") -> None:
        """`source` went down, or stale: the market was last heard at `from_ms`."""
        with self.mutex:
            self._gaps.silence_begins(kind, source, symbol, from_ms)

    def silence_ends(self, to_ms: int, symbol: str | None = None) -> None:
        with self.mutex:
            self._gaps.silence_ends(to_ms, symbol)

    def _recent_of(self, source: str, item: Print) -> _Recent | None:
        if item.exchange_id is None:
            return None
        key = (source, item.symbol)
        recent = self._recent.get(key)
        if recent is None:
            recent = self._recent[key] = _Recent()
        return recent

    def _passes(self, symbol: str) -> bool:
        return (self._seen.get(symbol, 0) + 1) % self._sample_every == 0

    def _settle(self, source: str, item: Print, received_ms: int, recent: _Recent | None) -> None:
        passes = self._passes(item.symbol)
        self._seen[item.symbol] = self._seen.get(item.symbol, 0) + 1
        self._books.received += 1
        if recent is not None and item.exchange_id is not None:
            recent.add(item.exchange_id)
        if not passes:
            self._books.sampled_out += 1
            self._gaps.lose("sampled_out", source, item.symbol, received_ms)
            return
        tick = Tick(
            self._next_id,
            source,
            item.symbol,
            item.price,
            item.size,
            item.exchange_id,
            item.exchange_ms,
            received_ms,
        )
        self._next_id += 1
        self._events.append(tick)

    def _evict_oldest(self, at_ms: int, now: float) -> None:
        tick = self._events.popleft()
        assert isinstance(tick, Tick)
        self._books.dropped += 1
        self._gaps.lose("dropped", tick.source, tick.symbol, at_ms)
        if now - self._last_eviction > 1.0:
            self._evicting_since = now
        self._last_eviction = now

    # The consumer's side ----------------------------------------------------------------------------------------

    def _taken(self, count: int) -> None:
        self._books.admitted += count

    # The engine's and the writer's side -------------------------------------------------------------------------

    def evicting_for(self) -> float:
        """Seconds for which every second saw an eviction; 0 when the last one is over a second ago."""
        with self.mutex:
            now = time.monotonic()
            return now - self._evicting_since if now - self._last_eviction <= 1.0 else 0.0

    def resample(self, sample_every: int, admit_wait_ms: float, now_ms: int) -> int:
        """A reload: the sampling count starts anew with the next trade. Returns `received` at that moment."""
        with self.mutex:
            self._sample_every = sample_every
            self._admit_wait_s = admit_wait_ms / 1000
            self._seen.clear()
            self._gaps.close(now_ms)
            return self._books.received

    def close_gaps(self, now_ms: int, *, for_good: bool = False) -> None:
        with self.mutex:
            self._gaps.close(now_ms, for_good=for_good)

    def drop_waiting(self, now_ms: int) -> int:
        """A stop that has to end: what still waits is dropped, as gap `stop`. Returns how many."""
        with self.mutex:
            ticks = [event for event in self._get() if isinstance(event, Tick)]
            for tick in ticks:
                self._books.dropped += 1
                self._gaps.lose("stop", tick.source, tick.symbol, now_ms)
            self._gaps.close(now_ms, for_good=True)
            return len(ticks)

    def snapshot(self) -> Books:
        """The books at one moment, under the lock; `waiting` is what stands in the channel."""
        with self.mutex:
            return replace(self._books, waiting=self._qsize())

    def ledger(self) -> tuple[Books, list[Gap]]:
        """The books, and the gaps that changed since the last call, at the same moment. For the writer alone."""
        with self.mutex:
            return replace(self._books, waiting=self._qsize()), self._gaps.changed()
