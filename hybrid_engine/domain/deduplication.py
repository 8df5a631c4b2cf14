"""De-duplication: remembers the newest trade ids of each source and symbol, within a fixed amount of memory."""

from array import array
from bisect import bisect_left
from contextlib import suppress
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
    """The newest trades of one source and symbol, by their ids and by all that was told of them.

    A trade is repeated where all that was told of it is the same. Ids that begin anew, as those of a test network do
    when that is reset, are other trades: `reused` counts those whose id is remembered with another content.
    `highest`: the highest id; -1: there is none.

    All ids are kept, not only the highest: exchanges do not promise that the trades in a message are in order. The ids
    mostly ascend. An id above all others is new without a search, and any other is found by bisection, so two arrays of
    36 kB are enough; a set takes ten times as much. While ids are out of order, the whole array is searched.
    """

    __slots__ = ("_ascending", "_digests", "_ids", "highest", "reused")

    def __init__(self) -> None:
        self._ids = array("q")
        self._digests = array("q")  # of each whole trade
        self._ascending = 0  # so many of the newest ids are in ascending order
        self.highest = -1
        self.reused = 0

    def filter_duplicates(self, trades: list[MarketTrade]) -> list[MarketTrade]:
        """The trades that are new, and those without an id. The new ones are remembered."""
        ids = [number for _, _, _, number, _ in trades if number is not None]
        if len(ids) == len(trades) and ids and ids[0] > self.highest and all(map(lt, ids, ids[1:])):
            self._ids.extend(ids)
            self._digests.extend(map(hash, trades))
            self._ascending += len(ids)
            self.highest = ids[-1]
            self._forget_oldest()
            return trades
        return [trade for trade in trades if trade.exchange_id is None or self._add_if_new(trade, trade.exchange_id)]

    def _add_if_new(self, trade: MarketTrade, trade_id: int) -> bool:
        ids, digests, digest = self._ids, self._digests, hash(trade)
        if trade_id <= self.highest:
            same_id = self._find(trade_id)
            if any(digests[at] == digest for at in same_id):
                return False
            self.reused += bool(same_id)
        self._ascending = self._ascending + 1 if not ids or trade_id > ids[-1] else 1
        self.highest = max(self.highest, trade_id)
        ids.append(trade_id)
        digests.append(digest)
        self._forget_oldest()
        return True

    def _find(self, trade_id: int) -> list[int]:
        """Where the trades with that id are: more than one where ids began anew."""
        ids = self._ids
        if self._ascending >= len(ids):
            at = bisect_left(ids, trade_id)
            return [at] if at < len(ids) and ids[at] == trade_id else []
        found, at = list[int](), -1
        with suppress(ValueError):
            while True:
                at = ids.index(trade_id, at + 1)
                found.append(at)
        return found

    def _forget_oldest(self) -> None:
        ids = self._ids
        if len(ids) > REMEMBERED_IDS + SPARE_IDS:
            del ids[:-REMEMBERED_IDS]
            del self._digests[:-REMEMBERED_IDS]
            if self._ascending >= len(ids):
                self.highest = ids[-1]  # lower than before, where an exchange restarted its numbers
