"""What is remembered of a source, and how much of it at most: an exchange must not take the memory of the house."""

from array import array
from bisect import bisect_left
from operator import lt

from hybrid_engine.domain.events import MarketTrade

# Symbols of a source: as many as Binance streams on one connection. Those that it was not configured for are fewer, so
# that an exchange which invents some leaves room for those that it was.
MAX_SYMBOLS = 1024
MAX_STRANGERS = 256

# Trade ids of a symbol: more than any exchange repeats after a reconnect. So many beyond them are forgotten in one go.
REMEMBERED_IDS = 4096
SPARE_IDS = 512


class RecentIds:
    """The last trade ids of one source and symbol.

    Exchanges do not promise order inside a message, so the ids themselves, not a mark.

    They mostly ascend: those above all others are new without a look, and others are found by bisection. So they can
    lie in an array of 36 kB; a set takes ten times that. Out of order, it is looked through as a whole.
    """

    __slots__ = ("_ascending", "_highest", "_ids")

    def __init__(self) -> None:
        self._ids = array("q")
        self._ascending = 0  # of the newest ids, so many stand in ascending order
        self._highest = -1

    def sift(self, prints: list[MarketTrade]) -> list[MarketTrade]:
        """Those that did not come before, which are remembered now; those without a number as well."""
        numbers = [number for _, _, _, number, _ in prints if number is not None]
        if numbers and numbers[0] > self._highest and all(map(lt, numbers, numbers[1:])):
            self._ids.extend(numbers)
            self._ascending += len(numbers)
            self._highest = numbers[-1]
            self._forget()
            return prints
        return [item for item in prints if item.exchange_id is None or self._is_new(item.exchange_id)]

    def _is_new(self, number: int) -> bool:
        ids = self._ids
        if number <= self._highest:
            if self._ascending < len(ids):
                known = number in ids
            else:
                at = bisect_left(ids, number)
                known = at < len(ids) and ids[at] == number
            if known:
                return False
        self._ascending = self._ascending + 1 if not ids or number > ids[-1] else 1
        self._highest = max(self._highest, number)
        ids.append(number)
        self._forget()
        return True

    def _forget(self) -> None:
        ids = self._ids
        if len(ids) > REMEMBERED_IDS + SPARE_IDS:
            del ids[:-REMEMBERED_IDS]
            if self._ascending >= len(ids):
                self._highest = ids[-1]  # lower than it was, where an exchange began to count anew
