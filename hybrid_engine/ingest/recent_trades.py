"""Remembers recently accepted trades, so that a failover or a planned move does not store them twice.

Two sources can serve the same exchange, one a little later than the other. Trades are compared by all their fields,
the exchange's id included: ids alone collide between unrelated exchanges.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from hybrid_engine.domain.events import MarketTrade

# How many trades are remembered of each symbol and source, and of each source in total.
MAX_PER_SYMBOL = 1024
MAX_TOTAL = 16384
# How far one connection, or one source, may be behind another that brings the same trades.
DUPLICATE_WINDOW_S = 5.0


class RecentTrades:
    """The newest accepted trades of `shared_symbols`, those that several sources carry; others are not remembered."""

    def __init__(self, shared_symbols: Iterable[str]) -> None:
        self._symbols = frozenset(shared_symbols)
        self._size = min(MAX_PER_SYMBOL, MAX_TOTAL // max(1, len(self._symbols)))
        # by symbol, then by source
        self._trades: dict[str, dict[str, deque[MarketTrade]]] = {symbol: {} for symbol in self._symbols}

    def add(self, source: str, trades: Sequence[MarketTrade]) -> None:
        if not self._symbols or not trades:
            return
        symbols = {trade.symbol for trade in trades}
        for symbol in self._symbols.intersection(symbols):
            newest = self._trades[symbol].get(source)
            if newest is None:
                newest = self._trades[symbol][source] = deque(maxlen=self._size)
            newest.extend(trades if len(symbols) == 1 else [trade for trade in trades if trade.symbol == symbol])

    def from_others(self, source: str, symbol: str) -> set[MarketTrade]:
        """The trades of `symbol` accepted from sources other than `source`; only those with an exchange id."""
        sources = self._trades.get(symbol, {})
        others = (newest for name, newest in sources.items() if name != source)
        return {trade for newest in others for trade in newest if trade.exchange_id is not None}


class DuplicateWindow:
    """Trades that may arrive a second time within DUPLICATE_WINDOW_S."""

    def __init__(self) -> None:
        self.trades: set[MarketTrade] = set()
        self._closes_at = 0.0  # monotonic seconds

    def extend(self, trades: Iterable[MarketTrade], now: float) -> None:
        """Add `trades`, and open the window anew for all of them."""
        self.trades.update(trades)
        self._closes_at = now + DUPLICATE_WINDOW_S

    def split(self, trades: Sequence[MarketTrade], now: float) -> tuple[list[MarketTrade], list[MarketTrade]]:
        """Split `trades` into (new, duplicates). Forgets its trades once the window is over."""
        new = [trade for trade in trades if trade not in self.trades]
        duplicates = [trade for trade in trades if trade in self.trades] if len(new) < len(trades) else []
        if now > self._closes_at:
            self.trades.clear()
        return new, duplicates
