"""The books of the front door, the gaps, and what the other stages count.

`Books` is owned by the front door and only touched under its lock, so that one snapshot balances at any moment:
received == sampled_out + rejected + duplicate + dropped + waiting + admitted. No term is computed from the others.
"""

from dataclasses import dataclass, field, fields
from typing import NamedTuple

SILENCES = frozenset({"down", "stale", "crash"})


class Gap(NamedTuple):
    """An interval in which something is missing: `to_ms` None while it is open, `missed` None when unknown."""

    id: int
    kind: str
    source: str
    symbol: str
    from_ms: int
    to_ms: int | None
    missed: int | None


Key = tuple[str, str, str]


class _Open:
    """A gap that may still grow; mutable, because a loss is counted for every trade that is sampled out."""

    __slots__ = ("count", "from_ms", "id", "last_ms")

    def __init__(self, gap_id: int, from_ms: int, count: int | None) -> None:
        self.id = gap_id
        self.from_ms = self.last_ms = from_ms
        self.count = count


class GapLedger:
    """Gaps as intervals: at most one open row a (kind, source, symbol), never a row a tick.

    Not thread-safe: the front door's lock guards it.
    """

    def __init__(self, first_id: int = 1) -> None:
        self._next_id = first_id
        self._open: dict[Key, _Open] = {}
        self._dirty: set[Key] = set()
        self._closed: list[Gap] = []

    def lose(self, kind: str, source: str, symbol: str, at_ms: int, count: int = 1, from_ms: int | None = None) -> None:
        """Count a loss into the open gap of its key, opening one, from `from_ms` on, when there is none."""
        key = (kind, source, symbol)
        gap = self._open.get(key) or self._begin(key, at_ms if from_ms is None else from_ms, 0)
        gap.count = (gap.count or 0) + count
        gap.last_ms = at_ms
        self._dirty.add(key)

    def silence_begins(self, kind: str, source: str, symbol: str, from_ms: int) -> None:
        """Nothing was heard since `from_ms`; how much was missed cannot be known."""
        key = (kind, source, symbol)
        if key not in self._open:
            self._begin(key, from_ms, None)

    def silence_ends(self, to_ms: int, symbol: str | None = None) -> None:
        """The market is heard again: close every silence (of `symbol`)."""
        for key in [k for k in self._open if k[0] in SILENCES and symbol in (None, k[2])]:
            self._close(key, to_ms)

    def close(self, now_ms: int, *, for_good: bool = False) -> None:
        """Close every open row (heartbeat, reload, stop); a silence goes on in a new row unless `for_good`."""
        for key, gap in list(self._open.items()):
            silent = key[0] in SILENCES
            self._close(key, now_ms if silent else gap.last_ms)
            if silent and not for_good:
                self._begin(key, now_ms, None)

    def changed(self) -> list[Gap]:
        """Rows that are new or different since the last call."""
        rows, self._closed = self._closed, []
        for key in self._dirty:
            gap = self._open[key]
            rows.append(Gap(gap.id, *key, gap.from_ms, None, gap.count))
        self._dirty.clear()
        return rows

    def _begin(self, key: Key, from_ms: int, count: int | None) -> _Open:
        gap = self._open[key] = _Open(self._next_id, from_ms, count)
        self._next_id += 1
        self._dirty.add(key)
        return gap

    def _close(self, key: Key, to_ms: int) -> None:
        gap = self._open.pop(key)
        self._dirty.discard(key)
        self._closed.append(Gap(gap.id, *key, gap.from_ms, max(to_ms, gap.from_ms), gap.count))


@dataclass(slots=True)
class Books:
    """The front door's counters. The unit is one trade of the market; `waiting` is what stands in the channel."""

    received: int = 0
    sampled_out: int = 0
    rejected: int = 0
    duplicate: int = 0
    dropped: int = 0
    waiting: int = 0
    admitted: int = 0
    missed: int = 0  # no term: numbers that the exchange gave and that never came


@dataclass(slots=True)
class Counters:
    """What the stages behind the door count; each field has exactly one thread that writes it."""

    signal_count: int = 0  # strategy
    orders: int = 0  # execution: every order, vetoes included
    shadow_orders: int = 0  # execution: orders recorded in SHADOW mode, vetoes excluded
    trade_count: int = 0  # execution
    risk_vetoes: int = 0  # execution
    persist_count: int = 0  # persist: rows committed
    persist_errors: int = 0  # persist: failed tries to commit, locks excluded
    lock_waits: int = 0  # persist: tries that met a lock
    ticks_stored: int = 0  # persist: ticks committed
    signals_stored: int = 0  # persist
    orders_stored: int = 0  # persist
    trades_stored: int = 0  # persist
    rows_expired: int = 0  # persist: rows deleted because they are older than retention_days


@dataclass(slots=True)
class FeedState:
    """What ingest knows of its sources; written by ingest, read by the heartbeat and the writer."""

    source: str = ""  # the source in use, several where they lead different symbols, "" when none
    last_frame_ms: int | None = None
    source_failures: int = 0
    sources_connected: int = 0
    dead_count: int = 0  # times a source was left because nothing came at all
    stale_count: int = 0  # times one was left because it did not trade while another did
    quiet_count: int = 0  # times a symbol's market was found quiet: no fault, nobody moved
    moves: int = 0  # planned: to a new connection before the old one ends, back to a better source
    sources: dict[str, str] = field(default_factory=dict)  # the state of each; replaced as a whole


def report(books: Books, counters: Counters, feed: FeedState) -> dict[str, object]:
    """The fields of HEARTBEAT and FINAL METRICS: the first system's names, then the books term by term."""
    names: dict[str, object] = {
        "tick_count": books.admitted,
        "ingest_received": books.received,
        "ingest_processed": books.admitted,
        "bp_drops_tick": books.dropped,
        # Past the door every stage blocks and none drops, so these two have nothing that could raise them.
        "bp_drops_signal": 0,
        "bp_drops_persist": 0,
    }
    for part in (counters, books):
        names.update({f.name: getattr(part, f.name) for f in fields(part)})
    names.update((f.name, getattr(feed, f.name)) for f in fields(feed))
    return names
