"""Execution: signals become orders, orders become trades.

An adapter executes; those of SHADOW and PAPER fill at once. Nothing here can reach a network: this module and what it
imports know no socket, and the `shadow` proof shows the same of the process.
"""

from collections.abc import Callable, Sequence

from hybrid_engine.domain.counters import StageCounters
from hybrid_engine.domain.events import FILLED, REJECTED, Event, Order, Signal, Tick, Trade
from hybrid_engine.stages.adapter import Execution, ExecutionAdapter
from hybrid_engine.stages.channel import Channel
from hybrid_engine.stages.risk import RiskBook
from hybrid_engine.stages.stage import Transform


class ExecutionStage(Transform):
    """Makes an order of every signal: as the adapter answers, or rejected as RISK_CAP. Its times are the tick's."""

    def __init__(
        self,
        mode: str,
        adapter: ExecutionAdapter,
        book: RiskBook,
        inbox: Channel,
        outbox: Channel,
        counters: StageCounters,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__("execution", inbox, outbox, on_end)
        self._mode = mode
        self._adapter = adapter
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
        vetoed = self._book.veto(signal) is not None
        self._counters.orders += 1
        self._counters.risk_vetoes += vetoed
        done = Execution(REJECTED, "RISK_CAP", price, 0.0) if vetoed else self._adapter.execute(signal, price)
        if done.status not in (FILLED, REJECTED):
            raise ValueError(f"the adapter answered status {done.status!r}; FILLED or REJECTED is possible")
        order = Order(
            signal.id,
            signal.symbol,
            signal.side,
            signal.size,
            done.price,
            done.status,
            done.reason,
            self._mode,
            signal.created_ms,
        )
        if done.status != FILLED:
            return [order]
        self._book.fill(signal.symbol, signal.side, signal.size)
        self._counters.shadow_orders += self._mode == "SHADOW"
        self._counters.trade_count += 1
        at = signal.created_ms
        return [order, Trade(order.id, signal.symbol, signal.side, signal.size, done.price, done.fee, at)]
