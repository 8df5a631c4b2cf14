"""Accounting: the counters of admission, of the later stages and of the feed; and gaps, the rows of the table `gaps`.

At any moment: received == sampled_out + rejected + duplicate + dropped + waiting + admitted. No term is computed from
the others. The field names are those of the heartbeat's log fields and of the columns of `runs`.
"""

from dataclasses import dataclass, field, fields
from typing import NamedTuple

from hybrid_engine.domain.run_state import RunState

Key = tuple[str, str, str]  # kind, source and symbol of a gap
MAX_MISSED = 256  # closed gaps of kind `missed` that may still be filled
SILENCES = frozenset({"down", "stale", "crash", "pause"})  # kinds of gaps; the others are losses


@dataclass(slots=True)
class AdmissionCounters:
    """The terms of the accounting. The unit is one trade; `waiting` is the number of ticks in the tick channel.

    Owned by the admission queue and read and written under its lock only, so that every snapshot balances.
    """

    received: int = 0
    sampled_out: int = 0
    rejected: int = 0
    duplicate: int = 0
    dropped: int = 0
    waiting: int = 0
    admitted: int = 0
    times_off: int = 0  # not a term: trades whose own time is more than a day from this host's clock
    missed: int = 0  # not a term: sequence numbers that the exchange used and that never arrived


@dataclass(slots=True)
class StageCounters:
    """What the stages behind admission count. Each field is written by exactly one thread, named in its comment."""

    signal_count: int = 0  # strategy
    orders: int = 0  # execution: every order, vetoed ones included
    shadow_orders: int = 0  # execution: orders recorded in SHADOW mode, without the vetoed ones
    trade_count: int = 0  # execution
    risk_vetoes: int = 0  # execution
    persist_count: int = 0  # persist: rows committed
    persist_errors: int = 0  # persist: failed attempts to commit, without locks
    lock_waits: int = 0  # persist: attempts that met a lock
    ticks_stored: int = 0  # persist: ticks committed
    signals_stored: int = 0  # persist
    orders_stored: int = 0  # persist
    trades_stored: int = 0  # persist
    rows_expired: int = 0  # persist: rows deleted because they were older than retention_days


@dataclass(slots=True)
class FeedState:
    """The state of the sources; written by ingest, read by the heartbeat and by persist."""

    source: str = ""  # the active source, several when symbols have different ones, "" when there is none
    last_frame_ms: int | None = None
    source_failures: int = 0
    sources_connected: int = 0
    dead_count: int = 0  # times a source was left because nothing at all arrived
    stale_count: int = 0  # times a source was left because it did not trade while another one did
    quiet_count: int = 0  # times the market of a symbol was found quiet: not a fault, the source stayed
    silent_count: int = 0  # times a symbol of a source was told of as never traded, or as silent
    filled: int = 0  # trades that were missing, and that the exchange repeated after a reconnect
    moves: int = 0  # planned: to a new connection before the old one ends, or back to a better source
    sources: dict[str, str] = field(default_factory=dict)  # the state of each source; replaced as a whole
    state: RunState = field(default_factory=RunState)  # replaced as a whole


def heartbeat_fields(admission: AdmissionCounters, stages: StageCounters, feed: FeedState) -> dict[str, object]:
    """The counters as log fields of HEARTBEAT and FINAL METRICS: first under their older names, then one by one."""
    values: dict[str, object] = {
        "tick_count": admission.admitted,
        "ingest_received": admission.received,
        "ingest_processed": admission.admitted,
        "bp_drops_tick": admission.dropped,
        # Behind admission every stage blocks and none drops, so nothing can raise these two.
        "bp_drops_signal": 0,
        "bp_drops_persist": 0,
    }
    for part in (stages, admission, feed):
        values.update((item.name, getattr(part, item.name)) for item in fields(part) if item.name != "state")
    return values


class Gap(NamedTuple):
    """An interval in which trades are missing: `to_ms` is None while it is open, `missed` None when unknown."""

    id: int
    kind: str
    source: str
    symbol: str
    from_ms: int
    to_ms: int | None
    missed: int | None


@dataclass(slots=True)
class _OpenGap:
    """A gap that may still grow. Mutable, because every lost trade is added to it."""

    id: int
    from_ms: int
    last_ms: int
    count: int | None


class GapRecorder:
    """Records intervals, at most one open gap for a (kind, source, symbol). The admission queue's lock guards it."""

    def __init__(self, first_id: int = 1) -> None:
        self._next_id = first_id
        self._open: dict[Key, _OpenGap] = {}
        self._changed: set[Key] = set()  # keys of open gaps that changed since the last `take_changes`
        self._closed: list[Gap] = []
        self._missed: dict[int, Gap] = {}  # the newest closed ones of that kind: what they miss may still arrive

    def add_loss(
        self, kind: str, source: str, symbol: str, at_ms: int, count: int = 1, from_ms: int | None = None
    ) -> int:
        """Add `count` lost trades to the open gap, or open one that begins at `from_ms` (default: `at_ms`).

        Returns the gap's id.
        """
        key = (kind, source, symbol)
        gap = self._open.get(key) or self._begin(key, at_ms if from_ms is None else from_ms, 0)
        gap.count = (gap.count or 0) + count
        gap.last_ms = at_ms
        self._changed.add(key)
        return gap.id

    def take_back(self, gap_id: int) -> None:
        """One of the trades that are missing in that gap, of kind `missed`, arrived after all."""
        for key, gap in self._open.items():
            if gap.id == gap_id:
                gap.count = max(0, (gap.count or 0) - 1)
                self._changed.add(key)
        if (closed := self._missed.get(gap_id)) is not None:
            closed = self._missed[gap_id] = closed._replace(missed=max(0, (closed.missed or 0) - 1))
            self._closed.append(closed)

    def begin_silence(self, kind: str, source: str, symbol: str, from_ms: int) -> None:
        """Nothing has arrived since `from_ms`. The number of missed trades cannot be known."""
        key = (kind, source, symbol)
        if key not in self._open:
            self._begin(key, from_ms, None)

    def end_silence(self, to_ms: int, symbol: str | None = None) -> None:
        """Trades arrive again: close every silence of `symbol` (None: of every symbol)."""
        for key in [k for k in self._open if k[0] in SILENCES and symbol in (None, k[2])]:
            self._close(key, to_ms)

    def close_all(self, now_ms: int, *, for_good: bool = False) -> None:
        """Close every open gap (heartbeat, reload, stop). A silence stays open until it ends, unless `for_good`."""
        for key, gap in list(self._open.items()):
            silent = key[0] in SILENCES
            if not silent or for_good:
                self._close(key, now_ms if silent else gap.last_ms)

    def take_changes(self) -> list[Gap]:
        """The gaps that are new or changed since the last call."""
        gaps, self._closed = self._closed, []
        for key in self._changed:
            gap = self._open[key]
            gaps.append(Gap(gap.id, *key, gap.from_ms, None, gap.count))
        self._changed.clear()
        return gaps

    def _begin(self, key: Key, from_ms: int, count: int | None) -> _OpenGap:
        gap = self._open[key] = _OpenGap(self._next_id, from_ms, from_ms, count)
        self._next_id += 1
        self._changed.add(key)
        return gap

    def _close(self, key: Key, to_ms: int) -> None:
        gap = self._open.pop(key)
        self._changed.discard(key)
        closed = Gap(gap.id, *key, gap.from_ms, max(to_ms, gap.from_ms), gap.count)
        self._closed.append(closed)
        if closed.kind == "missed":
            self._missed[gap.id] = closed
            if len(self._missed) > MAX_MISSED:
                del self._missed[next(iter(self._missed))]
