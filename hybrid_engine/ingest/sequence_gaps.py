"""Finds trades that never arrived, by the gaps in the exchange's own sequence numbers; numbers may arrive late."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hybrid_engine.domain.deduplication import MAX_SYMBOLS
from hybrid_engine.exchanges import Mark

# Exchanges repeat some numbers after a reconnect. A number further back than this means that numbering started anew.
REPEAT_WINDOW = 4096
# The same for a jump ahead that is larger than a market could make during an outage.
MAX_JUMP = 10_000_000
# Exchanges promise no order between channels: a number counts as missing only after this time.
LATE_S = 1.0
# How many gaps may wait for late numbers, and how many ranges each may be split into.
MAX_PENDING = 256


class SequenceEvent(NamedTuple):
    """Numbers `first` to `last` of `symbol` are `missing`, or else arrived late or again."""

    symbol: str
    first: int
    last: int
    lasting: bool
    missing: bool


class SequenceTracker:
    """The next expected number of each symbol of one source, apart for numbers that last across connections."""

    def __init__(self) -> None:
        self._due: dict[bool, dict[str, int]] = {True: {}, False: {}}

    def start_connection(self, continues: Callable[[str], bool]) -> None:
        """Forget the numbers of the last connection; lasting ones stay for the symbols that `continues` confirms."""
        self._due[False].clear()
        self._due[True] = {symbol: number for symbol, number in self._due[True].items() if continues(symbol)}

    def forget(self, symbols: Iterable[str]) -> None:
        """The numbers of these began anew."""
        for symbol in symbols:
            self._due[True].pop(symbol, None)

    def observe(self, marks: Sequence[Mark]) -> Sequence[SequenceEvent]:
        """Compare the numbers of one message with the expected ones."""
        if len(marks) == 1:
            symbol, first, last, lasting = marks[0]
            due = self._due[lasting]
            if due.get(symbol) == first <= last + 1:  # the usual case
                due[symbol] = last + 1
                return ()
        events: list[SequenceEvent] = []
        for symbol, first, last, lasting in sorted(marks):  # exchanges promise no order inside a message
            due = self._due[lasting]
            next_due = due.get(symbol)
            if next_due is None and len(due) >= MAX_SYMBOLS:
                continue  # bounds the memory where an exchange invents symbols
            if next_due is not None and next_due - REPEAT_WINDOW <= last + 1 <= next_due:
                if first <= last:  # all of it is late or repeated
                    events.append(SequenceEvent(symbol, first, last, lasting, missing=False))
                continue
            if next_due is not None and next_due - REPEAT_WINDOW <= first + 1 <= next_due:  # the first part of it is
                events.append(SequenceEvent(symbol, first, next_due - 1, lasting, missing=False))
            elif next_due is not None and 0 < first - next_due <= MAX_JUMP:
                events.append(SequenceEvent(symbol, next_due, first - 1, lasting, missing=True))
            due[symbol] = last + 1
        return events


@dataclass(slots=True)
class SequenceGap:
    """Missing numbers. `ranges`: those still missing, as (first, last); `key`: the numbering they belong to.

    `detected_at` is in monotonic seconds, `from_ms` and `detected_ms` are wall-clock milliseconds.
    """

    key: Hashable
    source: str
    symbol: str
    ranges: list[tuple[int, int]]
    from_ms: int
    detected_ms: int
    detected_at: float
    row: int = 0  # its id in `gaps`, once it was counted

    @property
    def count(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def remove(self, first: int, last: int) -> None:
        """These numbers are not missing any more."""
        if len(self.ranges) < MAX_PENDING:
            ranges = [part for a, b in self.ranges for part in ((a, min(b, first - 1)), (max(a, last + 1), b))]
            self.ranges = [(a, b) for a, b in ranges if a <= b]


class SequenceGaps:
    """Gaps whose numbers may still arrive late, and the newest of those that were counted: an exchange that repeats
    trades after a reconnect may fill these too.
    """

    def __init__(self) -> None:
        self._pending: deque[SequenceGap] = deque()
        self._counted: deque[SequenceGap] = deque(maxlen=MAX_PENDING)

    def add(self, gap: SequenceGap) -> None:
        self._pending.append(gap)

    def fill(self, key: Hashable, first: int, last: int) -> None:
        """Remove late numbers from the gaps of their numbering."""
        for gap in self._pending:
            if gap.key == key:
                gap.remove(first, last)

    def take(self, key: Hashable, number: int) -> SequenceGap | None:
        """The gap of that numbering in which `number` is missing, no more from now on; None where it is in none."""
        for gap in (*self._pending, *self._counted):
            if gap.key == key and any(first <= number <= last for first, last in gap.ranges):
                before = gap.count
                gap.remove(number, number)
                return gap if gap.count < before else None
        return None

    def keep_counted(self, gap: SequenceGap, row: int) -> None:
        """It is counted now, in that row of `gaps`."""
        gap.row = row
        self._counted.append(gap)

    def pop_expired(self, now: float) -> Iterator[SequenceGap]:
        """Remove and yield, oldest first, the gaps that have waited for LATE_S, and those beyond MAX_PENDING."""
        while self._pending and (now - self._pending[0].detected_at >= LATE_S or len(self._pending) > MAX_PENDING):
            yield self._pending.popleft()
