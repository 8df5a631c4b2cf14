"""Execution: makes an order of every signal, within the risk caps, and a trade of every order that is filled.

An adapter executes the orders; the one of SHADOW and PAPER fills at once. Neither this module nor what it imports can
open a socket, and the `shadow` proof shows the same for the process.
"""

from collections.abc import Sequence

from hybrid_engine.config.settings import Settings
from hybrid_engine.domain.accounting import StageCounters
from hybrid_engine.domain.events import FILLED, REJECTED, Event, Order, Signal, Tick, Trade
from hybrid_engine.stages.adapter import Execution, ExecutionAdapter
from hybrid_engine.stages.channel import Channel
from hybrid_engine.stages.risk import ExposureLimiter
from hybrid_engine.stages.stage import TransformStage


class ExecutionStage(TransformStage):
    """Makes an order of every signal: as the adapter answers, or REJECTED with reason RISK_CAP, at the tick's time."""

    def __init__(
        self, settings: Settings, adapter: ExecutionAdapter, inbox: Channel, outbox: Channel, counters: StageCounters
    ) -> None:
        super().__init__("execution", inbox, outbox, counters)
        self._mode = settings.mode
        self._adapter = adapter
        self._limiter = ExposureLimiter(settings.risk_caps)

    def transform(self, events: Sequence[Event]) -> Sequence[Event]:
        out: list[Event] = []
        for event in events:
            out.append(event)
            if isinstance(event, Tick):
                self._limiter.set_price(event.symbol, event.price)
            elif isinstance(event, Signal):
                out.extend(self._execute(event))
        return out

    def _execute(self, signal: Signal) -> list[Event]:
        number, symbol, side, _, _, size, at_ms = signal
        price = self._limiter.last_price(symbol)
        veto = self._limiter.exceeded_cap(signal) is not None
        self._counters.orders += 1
        self._counters.risk_vetoes += veto
        result = Execution(REJECTED, "RISK_CAP", price, 0.0) if veto else self._adapter.execute(signal, price)
        if result.status not in (FILLED, REJECTED):
            raise ValueError(f"the adapter returned status {result.status!r}; it must be FILLED or REJECTED")
        order = Order(number, symbol, side, size, result.price, result.status, result.reason, self._mode, at_ms)
        if result.status != FILLED:
            return [order]
        self._limiter.apply_fill(symbol, side, size)
        self._counters.shadow_orders += self._mode == "SHADOW"
        self._counters.trade_count += 1
        return [order, Trade(number, symbol, side, size, result.price, result.fee, at_ms)]
