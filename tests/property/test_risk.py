"""No sequence of signals and prices gets an order past the risk caps; what reduces exposure always passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_engine.config.settings import RiskCaps, Settings
from hybrid_engine.domain.accounting import StageCounters
from hybrid_engine.domain.events import BUY, FILLED, Event, Order, Signal, Tick, Trade
from hybrid_engine.stages.adapter import WITHOUT_NETWORK
from hybrid_engine.stages.channel import Channel
from hybrid_engine.stages.execution import ExecutionStage
from hybrid_engine.stages.risk import ExposureLimiter

SYMBOLS = ("A", "B", "C")
prices = st.floats(1e-6, 1e12) | st.sampled_from([1.0, 0.1, 99.99, 1e308])
sizes = st.floats(1e-9, 1e9) | st.sampled_from([0.1, 0.2, 0.3, 1e308])
moves = st.lists(
    st.tuples(st.sampled_from(SYMBOLS), prices, st.none() | st.tuples(st.sampled_from(["BUY", "SELL"]), sizes)),
    max_size=40,
)
caps = st.builds(RiskCaps, st.floats(1e-3, 1e9), st.floats(1e-3, 1e9), st.integers(1, 3))
ALMOST = 1 + 1e-9  # floats are added in another order


@pytest.mark.holds("I2")
@given(moves, caps)
def test_caps_hold(script: list[tuple[str, float, tuple[str, float] | None]], limits: RiskCaps) -> None:
    counters = StageCounters()
    settings = Settings(mode="PAPER", risk_caps=limits)
    stage = ExecutionStage(settings, WITHOUT_NETWORK["PAPER"], Channel(4), Channel(4), counters)
    net: dict[str, float] = dict.fromkeys(SYMBOLS, 0.0)
    last: dict[str, float] = dict.fromkeys(SYMBOLS, 0.0)
    vetoes = trades = 0
    for number, (symbol, price, wish) in enumerate(script, 1):
        tick = Tick(number, "s", symbol, price, 1.0, None, number, number)
        last[symbol] = price
        events: list[Event] = [tick]
        if wish is not None:
            events.append(Signal.of(tick, wish[0], wish[1], "R", 0.5))
        out = list(stage.transform(events))
        assert out[: len(events)] == events  # every event is passed on, in order, followed by what was made of it
        if wish is None:
            assert len(out) == 1
            continue
        side, size = wish
        order = out[2]
        assert isinstance(order, Order)
        assert (order.symbol, order.side, order.size) == (symbol, side, size)
        after = net[symbol] + (size if side == BUY else -size)
        reduces = abs(after) < abs(net[symbol])
        if order.status == FILLED:
            (trade,) = out[3:]
            assert isinstance(trade, Trade)
            assert (trade.id, trade.symbol, trade.side, trade.size) == (number, symbol, side, size)
            assert (trade.price, trade.fee) == (price, size * price * 0.001)
            net[symbol] = after
            trades += 1
            if not reduces:
                assert abs(after) * price <= limits.max_symbol_exposure_usd
                gross = sum(abs(net[s]) * last[s] for s in SYMBOLS)
                assert gross <= limits.max_exposure_usd * ALMOST
        else:
            assert out[3:] == []
            assert not reduces
            assert order.reason == "RISK_CAP"
            vetoes += 1
    assert (counters.risk_vetoes, counters.trade_count, counters.orders) == (vetoes, trades, vetoes + trades)


@pytest.mark.holds("I2")
@given(st.floats(1e-3, 1e6), st.floats(1e-9, 1e6), st.floats(0.01, 100))
def test_position_over_cap_can_only_be_reduced(cap: float, part: float, growth: float) -> None:
    limiter = ExposureLimiter(RiskCaps(cap, cap, 1))
    size = cap
    limiter.set_price("A", 1.0)
    tick = Tick(1, "s", "A", 1.0, 1.0, None, 1, 1)
    assert limiter.exceeded_cap(Signal.of(tick, "BUY", size, "R", 1.0)) is None
    limiter.apply_fill("A", "BUY", size)
    limiter.set_price("A", 1.0 + growth)
    assert limiter.exceeded_cap(Signal.of(tick, "BUY", part, "R", 1.0)) is not None
    less = min(part, size)
    if size - less < size:
        assert limiter.exceeded_cap(Signal.of(tick, "SELL", less, "R", 1.0)) is None
    assert limiter.symbol_exposure("A") == size * (1.0 + growth)


@pytest.mark.holds("I2")
@pytest.mark.parametrize(("size", "vetoed"), [(4.0, False), (4.0001, True), (0.5, False)])
@pytest.mark.parametrize("caps", [RiskCaps(1000.0, 8.0, 9), RiskCaps(8.0, 1000.0, 9)])
def test_cap_is_exact(caps: RiskCaps, size: float, vetoed: bool) -> None:
    limiter = ExposureLimiter(caps)
    limiter.set_price("A", 2.0)
    tick = Tick(1, "s", "A", 2.0, 1.0, None, 1, 1)
    for side in (BUY, "SELL"):
        assert (limiter.exceeded_cap(Signal.of(tick, side, size, "R", 1.0)) is not None) is vetoed


@pytest.mark.holds("I2")
def test_nan_is_vetoed() -> None:
    limiter = ExposureLimiter(RiskCaps())
    limiter.set_price("A", 1.0)
    tick = Tick(1, "s", "A", 1.0, 1.0, None, 1, 1)
    for size in (float("nan"), float("inf"), 1e300):
        assert limiter.exceeded_cap(Signal.of(tick, "BUY", size, "R", 1.0)) is not None


@pytest.mark.holds("I2")
def test_open_orders_cap_spares_reducing_orders() -> None:
    limiter = ExposureLimiter(RiskCaps(1e6, 1e6, 2))
    limiter.set_price("A", 1.0)
    tick = Tick(1, "s", "A", 1.0, 1.0, None, 1, 1)
    limiter.apply_fill("A", "BUY", 5.0)
    limiter.open_orders = 2
    assert limiter.exceeded_cap(Signal.of(tick, "BUY", 1.0, "R", 1.0)) == "max_open_orders"
    assert limiter.exceeded_cap(Signal.of(tick, "SELL", 1.0, "R", 1.0)) is None
    limiter.open_orders = 1
    assert limiter.exceeded_cap(Signal.of(tick, "BUY", 1.0, "R", 1.0)) is None
