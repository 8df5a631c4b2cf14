"""The engine reads every exchange: each trade is stored once, and missed trades are counted where they are numbered."""

from __future__ import annotations

import signal

import pytest

from proofs.mock_exchange import PATHS, MockExchange
from tests.support.accounting import check_finished, rows
from tests.support.process import Launcher, wait_until

COUNT = 400
# What each path's sequence numbers count: the trades of a symbol, (v1) the messages of a connection, or nothing.
COUNTED = {"binance", "binance_agg", "binance_combined", "coinbase", "gemini_v1", "kraken"}


def kind_of(path: str) -> str:
    return "binance" if path.startswith("binance") else path


@pytest.mark.holds("BYTES")
@pytest.mark.parametrize("path", PATHS)
def test_reconnect_stores_each_trade_once(engine: Launcher, path: str) -> None:
    with MockExchange(count=COUNT, rate=0, close_after=150, close_times=1, heartbeat=0.1) as exchange:
        engine.write_sources({"name": "one", "url": exchange.url(path, "btcusd"), "kind": kind_of(path)})
        process = engine.start(engine={"ingest_mode": "REAL_WS"})
        process.heartbeat(lambda fields: fields["ticks_stored"] == COUNT, after=0)
        sent = exchange.command("trades")["trades"]
        process.send(signal.SIGTERM)
        assert process.popen.wait(20) == 0
    run = check_finished(engine.db)
    assert (run["received"], run["rejected"], run["duplicate"]) == (COUNT, 0, 0)
    assert rows(engine.db, "SELECT exchange_id, price, size, exchange_ms FROM ticks ORDER BY id") == [
        (number, float(price), float(size), at_ms) for _, number, price, size, at_ms in sent
    ]
    assert rows(engine.db, "SELECT DISTINCT source, symbol FROM ticks") == [("one", "BTC/USD")]
    assert rows(engine.db, "SELECT * FROM gaps WHERE kind = 'missed'") == []


@pytest.mark.holds("MISSED")
@pytest.mark.parametrize("path", PATHS)
def test_missing_trade_numbers_are_counted(engine: Launcher, path: str) -> None:
    lost = [{"command": "lose", "n": 7, "after_sent": 100}]
    with MockExchange(count=COUNT, rate=0, do=lost) as exchange:
        engine.write_sources({"name": "one", "url": exchange.url(path, "btcusd"), "kind": kind_of(path)})
        process = engine.start(engine={"ingest_mode": "REAL_WS"})
        process.heartbeat(lambda fields: fields["ticks_stored"] == COUNT - 7, after=0)
        if path in COUNTED:  # a heartbeat closes it, not the end of the run
            closed = "SELECT count(*) FROM gaps WHERE kind = 'missed' AND to_ms IS NOT NULL"
            wait_until(lambda: rows(engine.db, closed) == [(1,)], "the gap to be closed")
        process.send(signal.SIGTERM)
        assert process.popen.wait(20) == 0
    check_finished(engine.db)
    missed = rows(engine.db, "SELECT source, symbol, sum(count) FROM gaps WHERE kind = 'missed' GROUP BY 1, 2")
    assert missed == ([("one", "BTC/USD", 7)] if path in COUNTED else [])


@pytest.mark.holds("BYTES")
@pytest.mark.parametrize("kind", ["binance", "coinbase", "gemini", "gemini_v2", "kraken"])
def test_symbols_of_one_source_stay_apart(engine: Launcher, kind: str) -> None:
    symbols = ["BTC/USD", "eth-usd", "LTC/EUR"]
    with MockExchange(count=300, rate=0, ids="symbol", close_after=100, close_times=1) as exchange:
        url = exchange.url(kind)
        if kind == "binance":
            url = url.replace("/ws/btcusdt@trade", "/stream?streams=btcusd@trade/ethusd@aggTrade/ltceur@trade")
        source = {"name": "one", "url": url, "kind": kind, "symbols": symbols}
        engine.write_sources(source)
        process = engine.start(engine={"ingest_mode": "REAL_WS"})
        process.heartbeat(lambda fields: fields["ticks_stored"] == 300, after=0)
        sent = exchange.stats()["sent_by_symbol"]
        process.send(signal.SIGTERM)
        assert process.popen.wait(20) == 0
    assert sent == {"BTCUSD": 100, "ETHUSD": 100, "LTCEUR": 100}
    # The ids of each symbol count from 1, as exchanges' ids do: none is missing, and none is reported as missing.
    stored = rows(engine.db, "SELECT symbol, exchange_id FROM ticks ORDER BY symbol, id")
    assert stored == [(symbol, number) for symbol in sorted(symbols) for number in range(1, 101)]
    assert rows(engine.db, "SELECT * FROM gaps WHERE kind = 'missed'") == []
