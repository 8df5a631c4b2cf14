"""Admission: the tick channel, the only place where a trade can be lost, and where every loss is counted.

Here trades are de-duplicated and sampled, and the oldest waiting tick is dropped when the channel stays full. What
becomes of a trade is decided and counted in one locked section, so a snapshot balances at any moment, and a reload of
`sample_every` takes effect between two trades.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

from hybrid_engine.domain.accounting import AdmissionCounters, Gap, GapRecorder
from hybrid_engine.domain.deduplication import MAX_SYMBOLS, RecentIds
from hybrid_engine.domain.events import MarketTrade, Tick
from hybrid_engine.runtime.log import Logger, LogRateLimiter
from hybrid_engine.stages.channel import HEARTBEAT_S, Channel

_SYMBOL = itemgetter(0)  # of a MarketTrade
# A trade whose own time is further from this host's clock than that is stored, told of and counted.
MAX_CLOCK_DISTANCE_MS = 86_400_000

log = Logger("hybrid_engine.admission")


class AdmissionQueue(Channel):
    """The channel from ingest to strategy, which counts, samples and admits.

    `capacity` is in ticks. Ingest waits at most `admit_wait_ms` for room, then the oldest waiting tick is dropped for
    the newest. `first_ids`: the store's next free ids of a tick and of a gap.
    """

    def __init__(
        self, capacity: int, *, sample_every: int, admit_wait_ms: float, first_ids: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__(capacity, wake_when_empty=True)
        self._next_id, first_gap_id = first_ids
        self._counters = AdmissionCounters()
        self._gaps = GapRecorder(first_gap_id)
        self._sample_every = sample_every
        self._admit_wait_s = admit_wait_ms / 1000
        self._sample_positions: dict[str, int] = {}  # trades of each symbol since its sampling count began
        self._recent_ids: dict[str, dict[str, RecentIds]] = {}  # by source, then by symbol
        self._rate_limiter = LogRateLimiter(log)
        self._deadline: float | None = None  # until when the present batch waits for room
        self._dropping_since = self._last_drop = float("-inf")

    # Called by ingest -------------------------------------------------------------------------------------------

    def offer_trades(
        self,
        source: str,
        trades: Iterable[MarketTrade],
        received_ms: int,
        heartbeat: Callable[[], None],
        *,
        filled: bool = False,
    ) -> Collection[str]:
        """Count trades as they arrived, and queue those that are neither duplicates nor sampled out.

        `filled`: they had not arrived when they were made, and the exchange repeated them.

        Returns the symbols whose numbers began anew: a number is used again for another trade.

        The trades of one call share one wait of `admit_wait_ms`, because they arrived together. Trades without a symbol
        ("") and those of a source's symbols beyond MAX_SYMBOLS are rejected, and counted under the symbol "".
        """
        refused_symbol: str | None = None
        reused: dict[str, int] = {}
        far: dict[str, int] = {}  # by symbol, a time that is far from the clock
        with self._lock:
            self._deadline = None
            recent_of = self._recent_ids.setdefault(source, {})
            for symbol, group in groupby(trades, _SYMBOL):
                items = list(group)
                recent = recent_of.get(symbol)
                if recent is None:
                    if not symbol or len(recent_of) >= MAX_SYMBOLS:
                        self._count("rejected", source, "", received_ms, len(items))
                        refused_symbol = symbol
                        continue
                    recent = recent_of[symbol] = RecentIds()
                reused_before = recent.reused
                news = recent.filter_duplicates(items)
                if recent.reused > reused_before:
                    reused[symbol] = recent.reused - reused_before
                times = [trade[4] for trade in items]
                if max(times) > received_ms + MAX_CLOCK_DISTANCE_MS or min(times) < received_ms - MAX_CLOCK_DISTANCE_MS:
                    distances = [abs(time_ms - received_ms) for time_ms in times]
                    self._counters.times_off += sum(one > MAX_CLOCK_DISTANCE_MS for one in distances)
                    far[symbol] = times[distances.index(max(distances))]
                if duplicates := len(items) - len(news):
                    self._count("duplicate", source, symbol, received_ms, duplicates)
                self._sample(source, symbol, news, received_ms, heartbeat, int(filled))
            self._not_empty.notify()
        if refused_symbol is not None:
            fields = {"source": source, "symbol": refused_symbol, "allowed": MAX_SYMBOLS}
            self._rate_limiter.warn("rejected: too many symbols", **fields)
        for symbol, count in reused.items():
            self._rate_limiter.warn(
                "numbers are used again for other trades", source=source, symbol=symbol, trades=count
            )
        for symbol, time_ms in far.items():
            fields = {"source": source, "symbol": symbol, "exchange_ms": time_ms, "received_ms": received_ms}
            self._rate_limiter.warn("the time of a trade is more than a day from the clock", **fields)
        return reused.keys()

    def _sample(
        self,
        source: str,
        symbol: str,
        items: list[MarketTrade],
        received_ms: int,
        heartbeat: Callable[[], None],
        filled: int,
    ) -> None:
        """Sample, and queue the rest. Each turn of the loop counts and queues as many trades as there is room for."""
        counters, waiting, done = self._counters, self._events, 0
        while done < len(items):
            # Read again in each turn: waiting for room releases the lock, and a reload may change the sampling then.
            every, position = self._sample_every, self._sample_positions.get(symbol, 0)
            skip = every - 1 - position % every
            fitting = items[done : done + skip + (self._capacity - len(waiting)) * every]
            kept = fitting[skip::every]
            # The named tuple's own constructor takes twice as long.
            ticks = [
                tuple.__new__(Tick, (tick_id, source, symbol, price, size, number, at_ms, received_ms, filled))
                for tick_id, (_, price, size, number, at_ms) in enumerate(kept, self._next_id)
            ]
            waiting.extend(ticks)
            self._next_id += len(kept)
            self._sample_positions[symbol] = position + len(fitting)
            counters.received += len(fitting)
            if sampled_out := len(fitting) - len(kept):
                counters.sampled_out += sampled_out
                self._gaps.add_loss("sampled_out", source, symbol, received_ms, sampled_out)
            done += len(fitting)
            if done < len(items):
                self._make_room(1 + (len(items) - done - 1) // every, received_ms, heartbeat)

    def _make_room(self, needed: int, at_ms: int, heartbeat: Callable[[], None]) -> None:
        """Wait for room. Once this batch has waited long enough, drop the `needed` oldest ticks instead."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._admit_wait_s
        if now < self._deadline:
            self._not_empty.notify()
            self._not_full.wait(min(HEARTBEAT_S, self._deadline - now))
            heartbeat()
        else:
            for _ in range(min(needed, len(self._events))):
                self._drop_oldest(at_ms, now)

    def offer_replayed_ticks(
        self, ticks: Sequence[Tick], heartbeat: Callable[[], None], stopping: Callable[[], bool]
    ) -> None:
        """Queue the ticks of an earlier run unchanged: neither sampled nor dropped, because nothing is live."""
        start = 0
        with self._lock:
            while start < len(ticks) and not stopping():
                room = self._capacity - len(self._events)
                if room <= 0:
                    self._not_full.wait(HEARTBEAT_S)
                    heartbeat()
                    continue
                part = ticks[start : start + room]
                self._counters.received += len(part)
                self._events.extend(part)
                self._not_empty.notify()
                start += len(part)

    def count_loss(self, term: str, source: str, symbol: str, received_ms: int) -> None:
        """Count one trade or frame that is "rejected", or a trade that another source delivered before: "duplicate"."""
        with self._lock:
            self._count(term, source, symbol, received_ms, 1)

    def count_missed(self, source: str, symbol: str, count: int, from_ms: int, at_ms: int) -> int:
        """Count sequence numbers of the exchange that never arrived. They are not a term of the accounting.

        Returns the id of their row in `gaps`, for `uncount_missed`.
        """
        with self._lock:
            self._counters.missed += count
            return self._gaps.add_loss("missed", source, symbol, at_ms, count, from_ms)

    def uncount_missed(self, gap_id: int) -> None:
        """One of the numbers that were counted in that gap arrived after all."""
        with self._lock:
            self._counters.missed -= 1
            self._gaps.take_back(gap_id)

    def newest_number(self, source: str, symbol: str) -> int:
        """The highest number of the trades that are remembered; -1 where there is none."""
        with self._lock:
            recent = self._recent_ids.get(source, {}).get(symbol)
            return -1 if recent is None else recent.highest

    def begin_silence(self, source: str, symbol: str, from_ms: int, kind: str = "down") -> None:
        """`source` is "down" or "stale" (`kind`): nothing of `symbol` has arrived since `from_ms`."""
        with self._lock:
            self._gaps.begin_silence(kind, source, symbol, from_ms)

    def end_silence(self, to_ms: int, symbol: str | None = None) -> None:
        with self._lock:
            self._gaps.end_silence(to_ms, symbol)

    def _count(self, term: str, source: str, symbol: str, at_ms: int, count: int) -> None:
        """Count trades that were received and lost at once, as `term` of the accounting and as a gap of this kind."""
        self._counters.received += count
        setattr(self._counters, term, getattr(self._counters, term) + count)
        self._gaps.add_loss(term, source, symbol, at_ms, count)

    def _drop_oldest(self, at_ms: int, now: float) -> None:
        tick = self._events.popleft()
        assert isinstance(tick, Tick)
        self._counters.dropped += 1
        self._gaps.add_loss("dropped", tick.source, tick.symbol, at_ms)
        if now - self._last_drop > 1.0:
            self._dropping_since = now
        self._last_drop = now

    # Called by strategy, through `take` -------------------------------------------------------------------------

    def _count_taken(self, count: int) -> None:
        self._counters.admitted += count

    # Called by the main thread and by persist -------------------------------------------------------------------

    def dropping_for_s(self) -> float:
        """For how many seconds every second had a drop; 0 when the last drop is more than a second ago."""
        with self._lock:
            now = time.monotonic()
            return now - self._dropping_since if now - self._last_drop <= 1.0 else 0.0

    def set_sampling(self, sample_every: int, admit_wait_ms: float, now_ms: int) -> int:
        """Change the sampling; its count restarts with the next trade. Returns `received` at that moment."""
        with self._lock:
            self._sample_every = sample_every
            self._admit_wait_s = admit_wait_ms / 1000
            self._sample_positions.clear()
            self._gaps.close_all(now_ms)
            return self._counters.received

    def close_gaps(self, now_ms: int, *, for_good: bool = False) -> None:
        with self._lock:
            self._gaps.close_all(now_ms, for_good=for_good)

    def drop_waiting(self, now_ms: int) -> int:
        """Drop every waiting tick, as gap `stop`: a stop has no more time. Returns how many there were."""
        with self._lock:
            ticks = [event for event in self._events if isinstance(event, Tick)]
            self._events.clear()
            for tick in ticks:
                self._counters.dropped += 1
                self._gaps.add_loss("stop", tick.source, tick.symbol, now_ms)
            self._gaps.close_all(now_ms, for_good=True)
            return len(ticks)

    def snapshot(self) -> AdmissionCounters:
        """A copy of the counters at one moment; `waiting` is the number of queued ticks."""
        with self._lock:
            return replace(self._counters, waiting=len(self._events))

    def take_changes(self) -> tuple[AdmissionCounters, list[Gap]]:
        """A snapshot, and the gaps that changed since the last call, at the same moment. Called by persist only."""
        with self._lock:
            return replace(self._counters, waiting=len(self._events)), self._gaps.take_changes()
