"""Gaps: the intervals in which trades are missing, each a row of the table `gaps`."""

from dataclasses import dataclass
from typing import NamedTuple

SILENCES = frozenset({"down", "stale", "crash"})


class Gap(NamedTuple):
    """An interval in which trades are missing: `to_ms` is None while it is open, `missed` None when unknown."""

    id: int
    kind: str
    source: str
    symbol: str
    from_ms: int
    to_ms: int | None
    missed: int | None


Key = tuple[str, str, str]


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

    def add_loss(
        self, kind: str, source: str, symbol: str, at_ms: int, count: int = 1, from_ms: int | None = None
    ) -> None:
        """Add `count` lost trades to the open gap, or open one that begins at `from_ms` (default: `at_ms`)."""
        key = (kind, source, symbol)
        gap = self._open.get(key) or self._begin(key, at_ms if from_ms is None else from_ms, 0)
        gap.count = (gap.count or 0) + count
        gap.last_ms = at_ms
        self._changed.add(key)

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
        """Close every open gap (heartbeat, reload, stop). A silence continues as a new gap unless `for_good`."""
        for key, gap in list(self._open.items()):
            silent = key[0] in SILENCES
            self._close(key, now_ms if silent else gap.last_ms)
            if silent and not for_good:
                self._begin(key, now_ms, None)

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
        self._closed.append(Gap(gap.id, *key, gap.from_ms, max(to_ms, gap.from_ms), gap.count))
