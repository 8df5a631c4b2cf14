"""The newest trades that were taken, for when another source takes over: it may bring some of them again.

Two sources can be two ways to one exchange, one of them a little later than the other. A trade is known by all that is
told of it, its number included: numbers alone meet between exchanges that have nothing to do with each other.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from hybrid_engine.domain.events import MarketTrade

# So many trades are remembered of each symbol and source, and in all of each source.
MOST = 1024
MOST_IN_ALL = 16384


class RecentTrades:
    """`shared`: the symbols that several sources have; of others nothing is remembered."""

    def __init__(self, shared: Iterable[str]) -> None:
        self._shared = frozenset(shared)
        self._most = min(MOST, MOST_IN_ALL // max(1, len(self._shared)))
        self._newest: dict[str, dict[str, deque[MarketTrade]]] = {
            symbol: {} for symbol in self._shared
        }  # then by source

    def add(self, source: str, prints: Sequence[MarketTrade]) -> None:
        if not self._shared or not prints:
            return
        symbols = {item.symbol for item in prints}
        for symbol in self._shared.intersection(symbols):
            newest = self._newest[symbol].get(source)
            if newest is None:
                newest = self._newest[symbol][source] = deque(maxlen=self._most)
            newest.extend(prints if len(symbols) == 1 else [item for item in prints if item.symbol == symbol])

    def of_others(self, source: str, symbol: str) -> set[MarketTrade]:
        """What was taken from others than `source` and has a number."""
        of_symbol = self._newest.get(symbol, {})
        others = (newest for name, newest in of_symbol.items() if name != source)
        return {item for newest in others for item in newest if item.exchange_id is not None}
