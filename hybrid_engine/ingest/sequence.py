"""What the exchange's own numbers tell of frames that never came."""

from collections.abc import Callable, Iterable, Sequence

from hybrid_engine.ingest.exchanges import Mark
from hybrid_engine.recent import MAX_SYMBOLS

# Numbers that come again: an exchange repeats some after a reconnect. What falls back further was numbered anew.
REPEATED = 4096
# A jump beyond what a market can do in an outage: numbered anew as well.
PLAUSIBLE = 10_000_000


class Numbers:
    """Of one source: the number that is due next, symbol by symbol, for those that last and those of a socket."""

    def __init__(self) -> None:
        self._due: dict[bool, dict[str, int]] = {True: {}, False: {}}

    def new_socket(self, goes_on: Callable[[str], bool]) -> None:
        """Numbers of a socket start anew; lasting ones go on for symbols that were last heard from this source."""
        self._due[False].clear()
        self._due[True] = {symbol: number for symbol, number in self._due[True].items() if goes_on(symbol)}

    def observe(self, marks: Sequence[Mark]) -> Iterable[tuple[str, int]]:
        """The marks of one message: symbols with how many numbers were left out in front of them."""
        if len(marks) == 1:
            symbol, first, last, lasting = marks[0]
            due = self._due[lasting]
            if due.get(symbol) == first <= last + 1:  # as nearly always
                due[symbol] = last + 1
                return ()
        missed: list[tuple[str, int]] = []
        for symbol, first, last, lasting in sorted(marks):  # exchanges do not promise order inside a message
            due = self._due[lasting]
            next_due = due.get(symbol)
            if next_due is None and len(due) >= MAX_SYMBOLS:
                continue  # an exchange that invents symbols
            if next_due is not None and next_due - REPEATED <= last + 1 <= next_due:
                continue  # a repetition, or what came late
            if next_due is not None and 0 < first - next_due <= PLAUSIBLE:
                missed.append((symbol, first - next_due))
            due[symbol] = last + 1
        return missed
