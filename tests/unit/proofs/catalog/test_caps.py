"""The risk caps: an engine that heeds them passes, and one that is wrong in any way is found by its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog._caps import GROSS_CAP, SEED, SYMBOL_CAP, TRADES, TURNS, Caps, held
from proofs.experiment.measurements import figures_of
from proofs.host.database import Row, Store
from proofs.mock_exchange.tape import random_walk
from tests.support.judging import DEPLOYED, verdict_of

Rule = Callable[[float, float, float, float], bool]  # old and new quantity, exposure of the market, of all


def heeds(old: float, new: float, own: float, gross: float) -> bool:
    return abs(new) < abs(old) or (own <= SYMBOL_CAP and gross <= GROSS_CAP)


def feed(rule: Rule = heeds) -> list[Row]:
    """What an engine with that rule stores of the trades that the case has sent."""
    tape, rows = random_walk(SEED), list[Row]()
    net, price = dict[str, float](), dict[str, float]()
    number, turns = 0, list(TURNS)
    while len(rows) < TRADES:
        number += 1
        if turns and len(rows) >= turns[0]:
            turns.pop(0)
            continue
        symbol, side = "ABAC"[(number - 1) % 4], "SELL" if len(rows) % 2 else "BUY"
        price[symbol], old = float(tape.item(number).price), net.get(symbol, 0.0)
        new = old + (0.1 if side == "BUY" else -0.1)
        own = abs(new) * price[symbol]
        filled = rule(old, new, own, own + sum(abs(net[one]) * price[one] for one in net if one != symbol))
        if filled:
            net[symbol] = new
        made: Row = {"due_side": side, "due_size": 0.1, "side": side, "size": 0.1}
        made |= {"trade_side": side if filled else None, "trade_size": 0.1 if filled else None}
        made |= {"symbol": symbol, "price": price[symbol], "status": "FILLED" if filled else "REJECTED"}
        rows.append(made)
    return rows


class Stored(Store):
    def __init__(self, rows: list[Row]) -> None:
        super().__init__(Path("/nonexistent"))
        self._rows_of = rows

    def rows(self, sql: str, arguments: Any = ()) -> list[Row]:
        vetoes = sum(row["status"] == "REJECTED" for row in self._rows_of)
        return [{"risk_vetoes": vetoes}] if "runs" in sql else self._rows_of


def verdict(rows: list[Row]) -> str:
    return verdict_of(Caps(DEPLOYED), figures_of(held(Stored(rows))), {})


def test_engine_that_heeds_the_caps_passes() -> None:
    figures = held(Stored(feed()))
    assert verdict(feed()) == "PASS"
    assert figures.filled + figures.vetoed == figures.n == TRADES


@pytest.mark.parametrize(
    "rule",
    [
        lambda old, new, own, gross: abs(new) < abs(old) or (own <= 1.1 * SYMBOL_CAP and gross <= GROSS_CAP),
        lambda old, new, own, gross: abs(new) < abs(old) or (own <= SYMBOL_CAP and gross <= 1.1 * GROSS_CAP),
        lambda old, new, own, gross: abs(new) < abs(old) or own <= SYMBOL_CAP,
        lambda old, new, own, gross: abs(new) < abs(old) or gross <= GROSS_CAP,
        lambda old, new, own, gross: own <= SYMBOL_CAP and gross <= GROSS_CAP,
        lambda old, new, own, gross: abs(new) < abs(old) or own <= 0.9 * SYMBOL_CAP,
        lambda old, new, own, gross: True,
    ],
    ids=["slack", "slack in all", "one market", "all alone", "reducing is refused", "too strict", "no caps"],
)
def test_engine_with_another_rule_fails(rule: Rule) -> None:
    assert verdict(feed(rule)) == "FAIL at the guard"


@pytest.mark.parametrize(
    "changes",
    [{"side": "BUY"}, {"size": 0.05}, {"trade_side": None}, {"trade_size": 0.2}, {"status": "REJECTED"}],
    ids=str,
)
def test_order_that_is_not_its_signals_fails(changes: Row) -> None:
    rows = feed()
    assert rows[7]["side"] == "SELL"
    assert verdict([*rows[:7], {**rows[7], **changes}, *rows[8:]]) == "FAIL at the guard"
