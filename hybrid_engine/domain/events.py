"""What travels down the street, each a row of the store.

Ids are reproducible: a tick's id is given at receipt, and the signal, order and trade it causes carry the same
number. Times are integer milliseconds UTC; prices are in quote currency per unit of base, sizes in units of base.
"""

from typing import NamedTuple

BUY = "BUY"
SELL = "SELL"
FILLED = "FILLED"
REJECTED = "REJECTED"


class MarketTrade(NamedTuple):
    """One trade as an exchange printed it, decoded but not yet admitted."""

    symbol: str
    price: float
    size: float
    exchange_id: int | None
    exchange_ms: int


class Tick(NamedTuple):
    """One trade of the market, as admitted."""

    id: int
    source: str
    symbol: str
    price: float
    size: float
    exchange_id: int | None
    exchange_ms: int
    received_ms: int


class Signal(NamedTuple):
    """A strategy's wish, caused by the tick of the same id; `confidence` is 0 to 1."""

    id: int
    symbol: str
    side: str
    reason: str
    confidence: float
    size: float
    created_ms: int

    @classmethod
    def of(cls, tick: Tick, side: str, size: float, reason: str, confidence: float) -> "Signal":
        """The signal that `tick` causes: its id, symbol and time are the tick's."""
        return cls(tick.id, tick.symbol, side, reason, confidence, size, tick.received_ms)


class Order(NamedTuple):
    """An order for a signal; a veto is an order with status REJECTED."""

    id: int
    symbol: str
    side: str
    size: float
    price: float
    status: str
    reason: str
    mode: str
    created_ms: int


class Trade(NamedTuple):
    """A fill of an order; `fee` is in quote currency."""

    id: int
    symbol: str
    side: str
    size: float
    price: float
    fee: float
    created_ms: int


Event = Tick | Signal | Order | Trade
