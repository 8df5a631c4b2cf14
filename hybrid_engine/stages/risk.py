"""The risk caps: which cap an order would exceed.

Exposure of a symbol = abs(net quantity) x last price, in quote currency; gross exposure is the sum over all symbols.
"""

from hybrid_engine.config.settings import RiskCaps
from hybrid_engine.domain.events import BUY, Signal


class ExposureLimiter:
    """The net positions of one run, which starts flat, valued at each symbol's last price and held to the caps."""

    def __init__(self, caps: RiskCaps) -> None:
        self._caps = caps
        self._net: dict[str, float] = {}
        self._price: dict[str, float] = {}
        self.open_orders = 0  # those that rest at an exchange: none in SHADOW and PAPER, which fill at once

    def set_price(self, symbol: str, price: float) -> None:
        """Set the last price of `symbol`, in quote currency per unit of base."""
        self._price[symbol] = price

    def last_price(self, symbol: str) -> float:
        """The last price of `symbol`. Raises KeyError when there is none."""
        return self._price[symbol]

    def symbol_exposure(self, symbol: str) -> float:
        """The exposure of `symbol`, in quote currency."""
        return abs(self._net.get(symbol, 0.0)) * self._price.get(symbol, 0.0)

    def exceeded_cap(self, signal: Signal) -> str | None:
        """The cap that an order for `signal` would exceed, or None. An order that reduces exposure always passes."""
        old = self._net.get(signal.symbol, 0.0)
        new = old + _signed_size(signal.side, signal.size)
        if abs(new) < abs(old):
            return None
        if self.open_orders >= self._caps.max_open_orders:
            return "max_open_orders"
        symbol_exposure = abs(new) * self._price[signal.symbol]
        others = sum(self.symbol_exposure(symbol) for symbol in self._net if symbol != signal.symbol)
        # Written with `not`, so that NaN exceeds the cap.
        if not symbol_exposure <= self._caps.max_symbol_exposure_usd:
            return "max_symbol_exposure_usd"
        if not others + symbol_exposure <= self._caps.max_exposure_usd:
            return "max_exposure_usd"
        return None

    def apply_fill(self, symbol: str, side: str, size: float) -> None:
        """An order was filled: change the net position by `size`, in units of base."""
        self._net[symbol] = self._net.get(symbol, 0.0) + _signed_size(side, size)


def _signed_size(side: str, size: float) -> float:
    return size if side == BUY else -size
