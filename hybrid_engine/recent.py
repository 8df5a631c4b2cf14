"""What is remembered of a source, and how much of it at most: an exchange must not take the memory of the house."""

from array import array
from bisect import bisect_left

# Symbols of a source: as many as Binance streams on one connection. Those that it was not configured for are fewer, so
# that an exchange which invents some leaves room for those that it was.
MAX_SYMBOLS = 1024
MAX_STRANGERS = 256

# Trade ids of a symbol: more than any exchange repeats after a reconnect.
REMEMBERED_IDS = 4096


class Recent:
    """The last trade ids of one source and symbol.

    Exchanges do not promise order inside a message, so the ids themselves, not a mark.

    They mostly ascend: one above all others is new without a look, and others are found by bisection. So they can lie
    in a ring of 32 kB; a set takes ten times that. Out of order, it is looked through as a whole.
    """

    __slots__ = ("_ascending", "_highest", "_ids", "_last", "_oldest")

    def __init__(self) -> None:
        self._ids = array("q")
        self._oldest = 0
        self._ascending = 0  # of the newest ids, so many stand in ascending order
        self._last = self._highest = -1

    def __contains__(self, exchange_id: int) -> bool:
        if exchange_id > self._highest:
            return False
        if self._ascending < len(self._ids):
            return exchange_id in self._ids
        return self._among(exchange_id, self._oldest, len(self._ids)) or self._among(exchange_id, 0, self._oldest)

    def _among(self, exchange_id: int, start: int, end: int) -> bool:
        at = bisect_left(self._ids, exchange_id, start, end)
        return at < end and self._ids[at] == exchange_id

    def add(self, exchange_id: int) -> None:
        """Remember one more; beyond REMEMBERED_IDS the oldest is forgotten for it."""
        self._ascending = self._ascending + 1 if exchange_id > self._last else 1
        self._last = exchange_id
        if len(self._ids) < REMEMBERED_IDS:
            self._ids.append(exchange_id)
        else:
            forgotten, self._ids[self._oldest] = self._ids[self._oldest], exchange_id
            self._oldest = (self._oldest + 1) % REMEMBERED_IDS
            if forgotten == self._highest:
                self._highest = max(self._ids)  # an exchange that began to count anew
        if exchange_id > self._highest:
            self._highest = exchange_id
