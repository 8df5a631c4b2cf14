"""Execution: makes an order of every signal, within the risk caps, and a trade of every order that is filled.

Exposure of a symbol = abs(net quantity) x last price, in quote currency; gross exposure is the sum over all symbols.

An adapter executes the orders; the one of SHADOW and PAPER fills at once. Neither this module nor what it imports can
open a socket, and the `shadow` proof shows the same for the process.
"""

from collections.abc import Sequence

from hybrid_engine.config.settings import RiskCaps, Settings
from hybrid_engine.domain.accounting import StageCounters
from hybrid_engine.domain.events import BUY, FILLED, REJECTED, Event, Order, Signal, Tick, Trade
from hybrid_engine.stages.adapter import Execution, ExecutionAdapter
from hybrid_engine.stages.channel import Channel
from hybrid_engine.stages.stage import TransformStage


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
