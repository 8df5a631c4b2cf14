"""Positions, exposure and the caps on it.

Exposure of a symbol = abs(net quantity) x last price, in quote currency; gross is the sum over symbols.
"""

from hybrid_engine.config.settings import RiskCaps
from hybrid_engine.domain.events import BUY, Signal


class RiskBook:
    """Net positions of one run, which starts flat, marked at each symbol's last price."""

    def __init__(self, caps: RiskCaps) -> None:
        self._caps = caps
        self._net: dict[str, float] = {}
        self._price: dict[str, float] = {}
        # Orders that rest at an exchange. SHADOW and PAPER fill at once, so theirs stay 0.
        self.open_orders = 0

    def mark(self, symbol: str, price: float) -> None:
        """The last price of `symbol`, quote currency per unit of base."""
        self._price[symbol] = price

    def price(self, symbol: str) -> float:
        """The last price of `symbol`; KeyError when none was seen."""
        return self._price[symbol]

    def exposure(self, symbol: str) -> float:
        """Quote currency at risk in `symbol`."""
        return abs(self._net.get(symbol, 0.0)) * self._price.get(symbol, 0.0)

    def gross(self) -> float:
        """Quote currency at risk over all symbols."""
        return sum(abs(net) * self._price[symbol] for symbol, net in self._net.items())

    def veto(self, signal: Signal) -> str | None:
        """Why an order for `signal` would break a cap, None when it would not. What reduces exposure always passes."""
        old = self._net.get(signal.symbol, 0.0)
        new = old + _signed(signal.side, signal.size)
        if abs(new) < abs(old):
            return None
        if self.open_orders >= self._caps.max_open_orders:
            return "max_open_orders"
        symbol_exposure = abs(new) * self._price[signal.symbol]
        others = sum(self.exposure(symbol) for symbol in self._net if symbol != signal.symbol)
        # Asked so that what is no number is vetoed.
        if not symbol_exposure <= self._caps.max_symbol_exposure_usd:
            return "max_symbol_exposure_usd"
        if not others + symbol_exposure <= self._caps.max_exposure_usd:
            return "max_exposure_usd"
        return None

    def fill(self, symbol: str, side: str, size: float) -> None:
        """An order was filled: the net position moves by `size`, in units of base."""
        self._net[symbol] = self._net.get(symbol, 0.0) + _signed(side, size)


def _signed(side: str, size: float) -> float:
    return size if side == BUY else -size
