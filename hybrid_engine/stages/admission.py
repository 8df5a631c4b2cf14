"""The tick channel: the only place where anything can be lost, and where every loss is booked.

Deciding a trade's fate and booking it happen in one locked section, so a snapshot balances at any moment and a reload
of `sample_every` falls between two trades, never into one.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

from hybrid_engine.domain.counters import AdmissionCounters
from hybrid_engine.domain.deduplication import MAX_SYMBOLS, RecentIds
from hybrid_engine.domain.events import MarketTrade, Tick
from hybrid_engine.domain.gaps import Gap, GapLedger
from hybrid_engine.runtime.log import Logger, Throttle
from hybrid_engine.stages.channel import BEAT_S, Channel

_SYMBOL = itemgetter(0)  # of a print

log = Logger("hybrid_engine.admission")


class AdmissionQueue(Channel):
    """Counts, samples and admits.

    `capacity` is in ticks. Ingest waits at most `admit_wait_ms` for room, then the oldest waiting tick is dropped for
    the newest. `first_tick_id` and `first_gap_id` are the store's next free ids.
    """

    def __init__(
        self, capacity: int, *, sample_every: int, admit_wait_ms: float, first_tick_id: int = 1, first_gap_id: int = 1
    ) -> None:
        super().__init__(capacity, lazy=True)
        self._books = AdmissionCounters()
        self._gaps = GapLedger(first_gap_id)
        self._sample_every = sample_every
        self._admit_wait_s = admit_wait_ms / 1000
        self._seen: dict[str, int] = {}
        self._recent: dict[str, dict[str, RecentIds]] = {}  # by source, then by symbol
        self._strangers = Throttle()
        self._next_id = first_tick_id
        self._deadline: float | None = None  # of the hand-over under way: until when it waits for room
        self._evicting_since = self._last_eviction = float("-inf")

    # Ingest's side ----------------------------------------------------------------------------------------------

    def offer(
        self, source: str, prints: Iterable[MarketTrade], received_ms: int, heartbeat: Callable[[], None]
    ) -> None:
        """Book trades as they came off the wire: duplicates and sampled-out ones are counted, the rest wait or evict.

        All of one hand-over share one wait of `admit_wait_ms`: they arrived together. A trade of a symbol too many (its
        name is "", or beyond MAX_SYMBOLS) is rejected, under no symbol's name.
        """
        stranger: str | None = None
        with self.mutex:
            self._deadline = None
            books = self._books
            recent_of = self._recent.setdefault(source, {})
            for symbol, group in groupby(prints, _SYMBOL):
                items = list(group)
                recent = recent_of.get(symbol)
                if recent is None:
                    if not symbol or len(recent_of) >= MAX_SYMBOLS:
                        books.received += len(items)
                        books.rejected += len(items)
                        self._gaps.lose("rejected", source, "", received_ms, len(items))
                        stranger = symbol
                        continue
                    recent = recent_of[symbol] = RecentIds()
                news = recent.sift(items)
                if again := len(items) - len(news):
                    books.received += again
                    books.duplicate += again
                    self._gaps.lose("duplicate", source, symbol, received_ms, again)
                self._admit(source, symbol, news, received_ms, heartbeat)
            self.not_empty.notify()
        if stranger is not None and (held := self._strangers.ready()) is not None:
            log.warn("rejected: too many symbols", source=source, symbol=stranger, allowed=MAX_SYMBOLS, held_back=held)

    def _admit(
        self, source: str, symbol: str, items: list[MarketTrade], received_ms: int, heartbeat: Callable[[], None]
    ) -> None:
        """Sample, and put into the channel what is left. Each turn books as many as have room, at one moment."""
        books, waiting, done = self._books, self._events, 0
        while done < len(items):
            # Asked anew in each turn: a wait for room releases the lock, and a reload may change the sampling then.
            every, seen = self._sample_every, self._seen.get(symbol, 0)
            skipped = every - 1 - seen % every
            fitting = items[done : done + skipped + (self.maxsize - len(waiting)) * every]
            kept = fitting[skipped::every]
            # Made without the named tuple's own constructor, which takes twice as long.
            waiting.extend(
                [
                    tuple.__new__(Tick, (tick_id, source, symbol, price, size, number, at_ms, received_ms))
                    for tick_id, (_, price, size, number, at_ms) in enumerate(kept, self._next_id)
                ]
            )
            self._next_id += len(kept)
            self._seen[symbol] = seen + len(fitting)
            books.received += len(fitting)
            if sampled_out := len(fitting) - len(kept):
                books.sampled_out += sampled_out
                self._gaps.lose("sampled_out", source, symbol, received_ms, sampled_out)
            done += len(fitting)
            if done < len(items):
                self._make_room(1 + (len(items) - done - 1) // every, received_ms, heartbeat)

    def _make_room(self, wanted: int, at_ms: int, heartbeat: Callable[[], None]) -> None:
        """Wait for room, or, when the hand-over has waited for long enough, drop so many of the oldest."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._admit_wait_s
        if now < self._deadline:
            self.not_empty.notify()
            self.not_full.wait(min(BEAT_S, self._deadline - now))
            heartbeat()
        else:
            for _ in range(min(wanted, len(self._events))):
                self._evict_oldest(at_ms, now)

    def offer_replayed(
        self, ticks: Sequence[Tick], heartbeat: Callable[[], None], stopping: Callable[[], bool]
    ) -> None:
        """Admit ticks of an earlier run as they are: not sampled, never evicted, for no market presses."""
        start = 0
        with self.mutex:
            while start < len(ticks) and not stopping():
                room = self.maxsize - self._qsize()
                if room <= 0:
                    self.not_full.wait(BEAT_S)
                    heartbeat()
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

    def repeat(self, source: str, symbol: str, received_ms: int) -> None:
        """Book one trade that another source brought before."""
        with self.mutex:
            self._books.received += 1
            self._books.duplicate += 1
            self._gaps.lose("duplicate", source, symbol, received_ms)

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

    def snapshot(self) -> AdmissionCounters:
        """The books at one moment, under the lock; `waiting` is what stands in the channel."""
        with self.mutex:
            return replace(self._books, waiting=self._qsize())

    def ledger(self) -> tuple[AdmissionCounters, list[Gap]]:
        """The books, and the gaps that changed since the last call, at the same moment. For the writer alone."""
        with self.mutex:
            return replace(self._books, waiting=self._qsize()), self._gaps.changed()
