"""De-duplication: remembers the newest trade ids of each source and symbol, within a fixed amount of memory."""

from array import array
from bisect import bisect_left
from operator import lt

from hybrid_engine.domain.events import MarketTrade

# Symbols of one source: as many as Binance sends on one connection. Fewer of them may be symbols that the source was
# not configured for, so that an exchange which invents symbols leaves room for the configured ones.
MAX_SYMBOLS = 1024
MAX_UNKNOWN_SYMBOLS = 256

# Trade ids kept for a symbol: more than any exchange repeats after a reconnect. The oldest are deleted SPARE_IDS at a
# time.
REMEMBERED_IDS = 4096
SPARE_IDS = 512


class RecentIds:
    """The newest trade ids of one source and symbol.

    All ids are kept, not only the highest: exchanges do not promise that the trades in a message are in order.

    The ids mostly ascend. An id above all others is new without a search, and any other is found by bisection, so an
    array of 36 kB is enough; a set takes ten times as much. While ids are out of order, the whole array is searched.
    """

    __slots__ = ("_ascending", "_highest", "_ids")

    def __init__(self) -> None:
        self._ids = array("q")
        self._ascending = 0  # so many of the newest ids are in ascending order
        self._highest = -1

    def filter_duplicates(self, trades: list[MarketTrade]) -> list[MarketTrade]:
        """The trades whose id is new, and those without an id. The new ids are remembered."""
        ids = [number for _, _, _, number, _ in trades if number is not None]
        if ids and ids[0] > self._highest and all(map(lt, ids, ids[1:])):
            self._ids.extend(ids)
            self._ascending += len(ids)
            self._highest = ids[-1]
            self._forget_oldest()
            return trades
        return [trade for trade in trades if trade.exchange_id is None or self._add_if_new(trade.exchange_id)]

    def _add_if_new(self, trade_id: int) -> bool:
        ids = self._ids
        if trade_id <= self._highest:
            if self._ascending < len(ids):
                known = trade_id in ids
            else:
                at = bisect_left(ids, trade_id)
                known = at < len(ids) and ids[at] == trade_id
            if known:
                return False
        self._ascending = self._ascending + 1 if not ids or trade_id > ids[-1] else 1
        self._highest = max(self._highest, trade_id)
        ids.append(trade_id)
        self._forget_oldest()
        return True

    def _forget_oldest(self) -> None:
        ids = self._ids
        if len(ids) > REMEMBERED_IDS + SPARE_IDS:
            del ids[:-REMEMBERED_IDS]
            if self._ascending >= len(ids):
                self._highest = ids[-1]  # lower than before, where an exchange restarted its numbers
