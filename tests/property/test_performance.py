"""The accounting of a run's trades against an independent one in exact decimals, whatever is traded."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_engine.domain.performance import Performance


class Step(NamedTuple):
    """A tick of a symbol, and what it caused: a trade of `size` at its price, or none."""

    symbol: str
    price: Decimal
    size: Decimal  # positive: bought; negative: sold; 0: no trade
    fee: Decimal


prices = st.decimals("0.01", "100000", places=2)
sizes = st.one_of(st.just(Decimal(0)), st.decimals("-50", "50", places=3))
steps = st.builds(Step, st.sampled_from(["A", "B", "C"]), prices, sizes, st.decimals("0", "5", places=4))


class Exact:
    """One symbol in fractions: what the position cost, instead of its average price."""

    def __init__(self) -> None:
        self.net = self.cost = self.realised = self.cash = self.fees = self.price = Fraction(0)
        self.closing = self.winning = 0

    def trade(self, size: Fraction, price: Fraction, fee: Fraction) -> None:
        self.fees += fee
        self.cash -= size * price
        if self.net * size < 0:
            share = min(abs(size / self.net), Fraction(1))  # of the position that is given up
            gain = self.net * share * price - self.cost * share
            self.realised, self.closing, self.winning = (
                self.realised + gain,
                self.closing + 1,
                self.winning + (gain > 0),
            )
            rest = size + self.net * share
            self.net, self.cost = self.net * (1 - share), self.cost * (1 - share)
            size = rest
        self.net, self.cost = self.net + size, self.cost + size * price


@given(st.lists(steps, max_size=60))
def test_figures_are_those_of_exact_accounting(trades: list[Step]) -> None:
    performance, exact = Performance(), dict[str, Exact]()
    peak = drawdown = exposure = Fraction(0)
    for step in trades:
        one, price = exact.setdefault(step.symbol, Exact()), Fraction(step.price)
        performance.mark(step.symbol, float(step.price))
        one.price = price
        totals = [_result(exact)]
        exposures = [_exposure(exact)]
        if step.size:
            side = "BUY" if step.size > 0 else "SELL"
            performance.fill(step.symbol, side, float(abs(step.size)), float(step.price), float(step.fee))
            one.trade(Fraction(step.size), price, Fraction(step.fee))
            totals.append(_result(exact))
            exposures.append(_exposure(exact))
        for total in totals:
            peak = max(peak, total)
            drawdown = max(drawdown, peak - total)
        exposure = max(exposure, *exposures)
    scale = float(sum(abs(step.price * step.size) + step.price * 50 for step in trades)) + 1
    for symbol, one in exact.items():
        position = performance.positions[symbol]
        found = (position.net, position.realised, position.fees, position.unrealised, position.result)
        unrealised = one.net * one.price - one.cost
        wanted = (one.net, one.realised, one.fees, unrealised, one.realised + unrealised - one.fees)
        assert found == pytest.approx([float(value) for value in wanted], rel=1e-9, abs=1e-9 * scale)
        # Whatever a position is held to have cost, the result is what was paid and what is held.
        assert float(one.cash + one.net * one.price - one.fees) == pytest.approx(position.result, abs=1e-9 * scale)
        assert position.closing == one.closing
    assert performance.drawdown == pytest.approx(float(drawdown), rel=1e-9, abs=1e-9 * scale)
    assert performance.exposure_max == pytest.approx(float(exposure), rel=1e-9, abs=1e-9 * scale)


def _result(exact: dict[str, Exact]) -> Fraction:
    return sum((one.cash + one.net * one.price - one.fees for one in exact.values()), Fraction(0))


def _exposure(exact: dict[str, Exact]) -> Fraction:
    return sum((abs(one.net) * one.price for one in exact.values()), Fraction(0))


def test_position_that_turns_around() -> None:
    """Bought 2 at 100, sold 5 at 110: 20 are realised, and 3 are short at 110; bought back at 100 these gain 30."""
    performance = Performance()
    for side, size, price in (("BUY", 2.0, 100.0), ("SELL", 5.0, 110.0), ("BUY", 3.0, 100.0)):
        performance.mark("A", price)
        performance.fill("A", side, size, price, 1.0)
    position = performance.positions["A"]
    assert (position.net, position.realised, position.fees, position.result) == (0.0, 50.0, 3.0, 47.0)
    assert (position.trades, position.closing, position.win_rate, position.turnover) == (3, 2, 1.0, 1050.0)
    assert (position.exposure_max, performance.exposure_max) == (330.0, 330.0)
