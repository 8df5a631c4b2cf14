"""What is stored is what the exchange sent, row by row, over so many rows that one wrong in 10,000 is among them.

The quick tests have no other guard against a fault that is rare, or that counts what it loses.
"""

from __future__ import annotations

import signal
from itertools import cycle

import pytest

from proofs.mock_exchange import MockExchange
from tests.support.accounting import check_finished, rows
from tests.support.process import Launcher

COUNT = 21_000
EVERY = 7  # which divides neither 1,000 nor 10,000, so that a signal falls on each kind of rare tick
SYMBOL = "BTC-usdt"
SIZE = 0.1  # of the strategy that comes with the engine
FEE = 0.001  # of the value, by the adapter of SHADOW
_SIGNALS = """
SELECT s.id, s.tick_id, s.symbol, s.side, s.size, o.id, o.symbol, o.side, o.size, o.price, o.status, o.mode, t.id,
 t.symbol, t.side, t.size, t.price, t.fee FROM signals s LEFT JOIN orders o ON o.signal_id = s.id
 LEFT JOIN trades t ON t.order_id = o.id ORDER BY s.id
"""


@pytest.mark.holds("BYTES", "S13", "CHAINS", "ACCOUNTING")
def test_every_row_is_as_sent(engine: Launcher) -> None:
    with MockExchange(count=COUNT, rate=0, seed=11, close_after=9_000, close_times=1, first_id=500) as exchange:
        engine.write_sources({"name": "Spot.a", "url": exchange.url("binance", "btcusdt"), "symbol": SYMBOL})
        process = engine.start(engine={"ingest_mode": "REAL_WS", "signal_every_n_ticks": EVERY})
        process.wait("HEARTBEAT", lambda fields: fields["ticks_stored"] >= COUNT, timeout_s=90)
        sent = exchange.command("trades")["trades"]
        process.send(signal.SIGTERM)
        assert process.popen.wait(20) == 0
    check_finished(engine.db)
    due = [(number, float(price), float(size), at_ms) for _, number, price, size, at_ms in sent]
    stored = rows(engine.db, "SELECT exchange_id, price, size, exchange_ms FROM ticks ORDER BY id")
    assert stored == due
    assert rows(engine.db, "SELECT DISTINCT run_id, source, symbol FROM ticks") == [(1, "Spot.a", SYMBOL)]
    _check_orders(engine, due)


def _check_orders(engine: Launcher, due: list[tuple[int, float, float, int]]) -> None:
    """Each seventh tick has a signal, BUY and SELL in turn, with an order and a trade at the tick's price."""
    ids = [number for (number,) in rows(engine.db, "SELECT id FROM ticks ORDER BY id")]
    every_seventh = list(zip(ids, due, strict=True))[EVERY - 1 :: EVERY]
    expected = []
    for (tick, (_, price, *_)), side in zip(every_seventh, cycle(("BUY", "SELL")), strict=False):
        fee = SIZE * price * FEE
        signal_and_order = (tick, tick, SYMBOL, side, SIZE, tick, SYMBOL, side, SIZE, price, "FILLED", "SHADOW")
        expected.append((*signal_and_order, tick, SYMBOL, side, SIZE, price, fee))
    assert rows(engine.db, _SIGNALS) == expected


@pytest.mark.holds("FAILOVER", "STANDBY", "BYTES")
@pytest.mark.parametrize("standby", ["cold", "hot"])
def test_every_row_of_each_source_is_as_sent(engine: Launcher, standby: str) -> None:
    """The first source ends for good, and the second one sends for as long as one wrong in 10,000 is among its rows."""
    with MockExchange(rate=0, seed=3, count=900) as first, MockExchange(rate=0, seed=4, hold=True) as second:
        engine.write_sources(
            {"name": "first", "url": first.url("binance", "btcusdt"), "symbol": SYMBOL, "priority": 1},
            {"name": "second", "url": second.url("binance", "btcusdt"), "symbol": SYMBOL, "priority": 2},
        )
        process = engine.start(engine={"ingest_mode": "REAL_WS", "standby": standby})
        process.wait("HEARTBEAT", lambda fields: fields["ticks_stored"] == 900, timeout_s=60)
        sent = {"first": first.command("trades")["trades"]}
        first.stop()
        process.wait("HEARTBEAT", lambda fields: fields["source"] == "second", timeout_s=60)
        second.command("count", n=11_000)
        second.command("resume")
        process.wait("HEARTBEAT", lambda fields: fields["ticks_stored"] >= 11_900, timeout_s=90)
        sent["second"] = second.command("trades")["trades"]
        process.send(signal.SIGTERM)
        assert process.popen.wait(20) == 0
    check_finished(engine.db)
    for name, trades in sent.items():
        query = "SELECT exchange_id, price, size, exchange_ms, symbol FROM ticks WHERE source = ? ORDER BY id"
        due = [(number, float(price), float(size), at_ms, SYMBOL) for _, number, price, size, at_ms in trades]
        assert rows(engine.db, query, name) == due
