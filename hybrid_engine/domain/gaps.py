"""Gaps: the intervals in which trades are missing, one open row a (kind, source, symbol)."""

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
