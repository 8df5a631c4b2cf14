"""The comparison of stored rows with sent trades: each kind of wrong row is found, whichever row it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.catalog._rows import Rows, SentTrade, StoredRow, compare, row_checks
from proofs.catalog.sampling import EVERY, draw

TRADES = [SentTrade(1 + number // 30, number + 1, f"{100 + number}.25", "0.125", 5000 + number) for number in range(60)]
SENT = {"mock": TRADES}


def row(number: int, trade: SentTrade, every: int = 10) -> StoredRow:
    """The row of the number-th stored trade, from 1, with what the strategy makes of it."""
    price, size = float(trade.price), float(trade.size)
    tick = (1, "mock", "BTCUSDT", trade.trade_id, price, size, trade.time_ms)
    if number % every:
        return StoredRow._make([*tick, *[None] * 11])
    side = "BUY" if number // every % 2 else "SELL"
    order = ("BTCUSDT", side, price, 0.1, "FILLED")
    return StoredRow(*tick, "BTCUSDT", side, *order, "BTCUSDT", side, price, 0.1)


ROWS = [row(number, trade) for number, trade in enumerate(TRADES, 1)]


def changed(stored: StoredRow, columns: Mapping[str, object]) -> StoredRow:
    values: dict[str, Any] = {**stored._asdict(), **columns}
    return StoredRow(**values)


def failed(rows: Rows, least: int = 60) -> list[str]:
    return [check.name for check in row_checks(rows, least) if not check.ok]


def test_rows_as_sent_pass() -> None:
    rows = compare(SENT, ROWS)
    assert (rows.compared, rows.signals, rows.missing(), failed(rows)) == (60, 6, 0, [])


@given(st.integers(0, 59))
def test_each_column_of_each_row_counts(index: int) -> None:
    wrong = {
        "symbol": "BTC/USD",
        "price": ROWS[index].price + 0.01,
        "size": ROWS[index].size + 1e-8,
        "exchange_ms": ROWS[index].exchange_ms + 1,
        "source": "primary",
        "exchange_id": 61,
    }
    for column, value in wrong.items():
        rows = compare(SENT, [*ROWS[:index], changed(ROWS[index], {column: value}), *ROWS[index + 1 :]])
        assert "rows as sent" in failed(rows), column
        assert rows.difference.startswith(f"row {index + 1}"), rows.difference


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: [*rows, rows[-1]],
        lambda rows: [rows[1], rows[0], *rows[2:]],
        lambda rows: [*rows[:9], rows[9]._replace(exchange_id=None), *rows[10:]],
    ],
    ids=["stored twice", "out of order", "without a number"],
)
def test_order_of_rows_counts(change: Callable[[list[StoredRow]], list[StoredRow]]) -> None:
    assert "rows as sent" in failed(compare(SENT, change(ROWS)))


@pytest.mark.parametrize(
    "columns",
    [
        {"signal_side": "SELL"},
        {"signal_side": None},
        {"order_price": 1.0},
        {"trade_price": 1.0},
        {"trade_side": "SELL"},
        {"trade_size": 0.2},
        {"order_symbol": "ETH/USD"},
        {"signal_symbol": "ETH/USD"},
    ],
)
def test_chains_count(columns: dict[str, object]) -> None:
    rows = compare(SENT, [*ROWS[:9], changed(ROWS[9], columns), *ROWS[10:]])
    assert failed(rows) == ["signals, orders, trades of their ticks"]
    assert rows.chains.startswith("row 10: ")


def test_signals_of_another_period_are_found() -> None:
    assert failed(compare(SENT, ROWS, 7)) == ["signals, orders, trades of their ticks"]


def test_missing_trades_are_those_between_stored_ones_of_a_connection() -> None:
    kept = [number for number in range(60) if number not in (5, 6, 29, 30, 59)]
    rows = compare(SENT, [row(place, TRADES[number]) for place, number in enumerate(kept, 1)])
    assert rows.sources["mock"].missing == 2  # 29 ended its connection, 30 began the next, 59 was the last
    assert (rows.difference, rows.chains) == ("", "")


def test_too_few_rows_fail() -> None:
    assert failed(compare(SENT, ROWS), 61) == ["rows compared"]


@given(st.integers(0, 10**6 - 1))
def test_drawn_periods_are_none_that_a_case_has(seed: int) -> None:
    periods = draw(seed)
    assert periods == draw(seed)
    assert periods.sample not in EVERY
    assert periods.sample > 1
    assert periods.signal not in (1, 5, 10)
