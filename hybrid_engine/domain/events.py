"""The events that travel through the pipeline: ticks, signals, orders and trades. Each becomes a row of the store.

Ids are reproducible: a tick gets its id at receipt, and the signal, order and trade that it causes have the same id.
Times are integer milliseconds UTC; prices are in quote currency per unit of base, sizes in units of base.
"""

from typing import NamedTuple

BUY, SELL = "BUY", "SELL"
FILLED, REJECTED = "FILLED", "REJECTED"


class MarketTrade(NamedTuple):
    """One trade as an exchange reported it, decoded but not yet admitted. `exchange_id` is the exchange's own id."""

    symbol: str
    price: float
    size: float
    exchange_id: int | None
    exchange_ms: int


class Tick(NamedTuple):
    """One market trade that was admitted, or waits for it.

    `filled`: 1 where it was missing, and the exchange repeated it after a reconnect; else 0.
    """

    id: int
    source: str
    symbol: str
    price: float
    size: float
    exchange_id: int | None
    exchange_ms: int
    received_ms: int
    filled: int = 0


class Signal(NamedTuple):
    """What a strategy wants to trade, caused by the tick of the same id; `confidence` is 0 to 1."""

    id: int
    symbol: str
    side: str
    reason: str
    confidence: float
    size: float
    created_ms: int

    @classmethod
    def of(cls, tick: Tick, side: str, size: float, reason: str, confidence: float) -> "Signal":
        """The signal that `tick` causes: it gets the tick's id, symbol and time."""
        return cls(tick.id, tick.symbol, side, reason, confidence, size, tick.received_ms)


class Order(NamedTuple):
    """An order for a signal. An order that was vetoed has status REJECTED."""

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
    """An order that was filled; `fee` is in quote currency."""

    id: int
    symbol: str
    side: str
    size: float
    price: float
    fee: float
    created_ms: int


Event = Tick | Signal | Order | Trade
