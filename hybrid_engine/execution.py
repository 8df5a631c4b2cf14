"""Execution: signals become orders, orders become trades.

SHADOW and PAPER fill at once at the last price, with a fee. Nothing here can reach a network: this module and what it
imports know no socket, and the `shadow` proof shows the same of the process.
"""

from collections.abc import Callable, Sequence

from hybrid_engine.channel import Channel
from hybrid_engine.metrics import Counters
from hybrid_engine.model import FILLED, REJECTED, Event, Order, Signal, Tick, Trade
from hybrid_engine.risk import RiskBook
from hybrid_engine.stage import Transform

FEE_RATE = 0.001  # of the notional
_REASONS = {"SHADOW": "SHADOW_RECORDED", "PAPER": "PAPER_FILLED"}


class ExecutionStage(Transform):
    """Makes an order of every signal: filled, or rejected with reason RISK_CAP. Its times are the tick's."""

    def __init__(
        self,
        mode: str,
        book: RiskBook,
        inbox: Channel,
        outbox: Channel,
        counters: Counters,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__("execution", inbox, outbox, on_end)
        self._mode = mode
        self._book = book
        self._counters = counters

    def transform(self, events: Sequence[Event]) -> Sequence[Event]:
        out: list[Event] = []
        for event in events:
            out.append(event)
            if isinstance(event, Tick):
                self._book.mark(event.symbol, event.price)
            elif isinstance(event, Signal):
                out.extend(self._execute(event))
        return out

    def _execute(self, signal: Signal) -> list[Event]:
        price = self._book.price(signal.symbol)
        cap = self._book.veto(signal)
        self._counters.orders += 1
        status, reason = (FILLED, _REASONS[self._mode]) if cap is None else (REJECTED, "RISK_CAP")
        order = Order(
            signal.id,
            signal.symbol,
            signal.side,
            signal.size,
            price,
            status,
            reason,
            self._mode,
            signal.created_ms,
        )
        if cap is not None:
            self._counters.risk_vetoes += 1
            return [order]
        self._book.fill(signal.symbol, signal.side, signal.size)
        self._counters.shadow_orders += self._mode == "SHADOW"
        self._counters.trade_count += 1
        fee = signal.size * price * FEE_RATE
        return [order, Trade(order.id, signal.symbol, signal.side, signal.size, price, fee, signal.created_ms)]
