"""What the exchange's own numbers tell of frames that never came, or came late."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hybrid_engine.domain.deduplication import MAX_SYMBOLS
from hybrid_engine.exchanges import Mark

# Numbers that come again: an exchange repeats some after a reconnect. What falls back further was numbered anew.
REPEATED = 4096
# A jump beyond what a market can do in an outage: numbered anew as well.
PLAUSIBLE = 10_000_000
# What comes so many seconds after its turn was late and is not missed: exchanges promise no order between channels.
LATE_S = 1.0
# So many holes at a time wait for what is late, each in so many pieces.
WAITING = 256


class SequenceEvent(NamedTuple):
    """Numbers `first` to `last` were left out; or came, after others had that stand behind them."""

    symbol: str
    first: int
    last: int
    lasting: bool
    came: bool


class SequenceTracker:
    """Of one source: the number that is due next, symbol by symbol, for those that last and those of a socket."""

    def __init__(self) -> None:
        self._due: dict[bool, dict[str, int]] = {True: {}, False: {}}

    def new_socket(self, goes_on: Callable[[str], bool]) -> None:
        """Numbers of a socket start anew; lasting ones go on for symbols that were last heard from this source."""
        self._due[False].clear()
        self._due[True] = {symbol: number for symbol, number in self._due[True].items() if goes_on(symbol)}

    def observe(self, marks: Sequence[Mark]) -> Sequence[SequenceEvent]:
        """What the marks of one message tell beside the numbers that were due."""
        if len(marks) == 1:
            symbol, first, last, lasting = marks[0]
            due = self._due[lasting]
            if due.get(symbol) == first <= last + 1:  # as nearly always
                due[symbol] = last + 1
                return ()
        told: list[SequenceEvent] = []
        for symbol, first, last, lasting in sorted(marks):  # exchanges do not promise order inside a message
            due = self._due[lasting]
            next_due = due.get(symbol)
            if next_due is None and len(due) >= MAX_SYMBOLS:
                continue  # an exchange that invents symbols
            if next_due is not None and next_due - REPEATED <= last + 1 <= next_due:
                if first <= last:  # a repetition, or what came late
                    told.append(SequenceEvent(symbol, first, last, lasting, came=True))
                continue
            if next_due is not None and next_due - REPEATED <= first + 1 <= next_due:  # the same, and more behind it
                told.append(SequenceEvent(symbol, first, next_due - 1, lasting, came=True))
            elif next_due is not None and 0 < first - next_due <= PLAUSIBLE:
                told.append(SequenceEvent(symbol, next_due, first - 1, lasting, came=False))
            due[symbol] = last + 1
        return told


@dataclass(slots=True)
class SequenceGap:
    """Numbers that were left out; `pieces`: those that did not come since, as (first, last). `key`: of what they are
    the numbers. `found_at` is in monotonic seconds, `_ms` of the wall clock."""

    key: Hashable
    source: str
    symbol: str
    pieces: list[tuple[int, int]]
    from_ms: int
    at_ms: int
    found_at: float

    @property
    def count(self) -> int:
        return sum(last - first + 1 for first, last in self.pieces)


class SequenceGaps:
    """Holes that may yet be filled."""

    def __init__(self) -> None:
        self._waiting: deque[SequenceGap] = deque()

    def add(self, hole: SequenceGap) -> None:
        self._waiting.append(hole)

    def came(self, key: Hashable, first: int, last: int) -> None:
        """These numbers are here after all."""
        for hole in self._waiting:
            if hole.key == key and len(hole.pieces) < WAITING:
                pieces = [piece for a, b in hole.pieces for piece in ((a, min(b, first - 1)), (max(a, last + 1), b))]
                hole.pieces = [(a, b) for a, b in pieces if a <= b]

    def over(self, now: float) -> Iterator[SequenceGap]:
        """Those that nothing will fill any more, oldest first; they are forgotten."""
        while self._waiting and (now - self._waiting[0].found_at >= LATE_S or len(self._waiting) > WAITING):
            yield self._waiting.popleft()
