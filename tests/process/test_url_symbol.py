"""A source without `symbol` is for what its URL names: it is watched, and its gaps are told, under that name."""

from __future__ import annotations

import pytest

from proofs.mock_exchange import MockExchange
from tests.support.accounting import check_finished, rows
from tests.support.process import Launcher

FAST = {"ingest_mode": "REAL_WS", "dead_after_s": 10.0, "stale_after_s": 1.0, "network_deadline_s": 60}


@pytest.mark.holds("STALE")
def test_silent_leader_is_left_while_the_hot_standby_trades(engine: Launcher) -> None:
    with MockExchange(rate=50, noise=1) as first, MockExchange(rate=50, first_id=1_000_000) as second:
        sources = [{"name": name, "url": one.url(), "symbol": ""} for name, one in (("a", first), ("b", second))]
        engine.write_sources(*sources)
        process = engine.start(engine={**FAST, "standby": "hot"})
        process.heartbeat(lambda f: f["sources"] == {"a": "trading", "b": "standby"} and f["ticks_stored"] > 0)
        first.command("silent", what="trades")
        failed = process.wait("source failed")
        process.heartbeat(lambda f: f["source"] == "b" and f["ticks_stored"] > 100)
        assert process.stop() == 0
    assert failed["reason"] == "stale: no trade of BTCUSDT for 1 s while b trades"
    check_finished(engine.db)
    assert set(rows(engine.db, "SELECT kind, source, symbol FROM gaps")) == {("stale", "a", "BTCUSDT")}
    ids = [number for (number,) in rows(engine.db, "SELECT exchange_id FROM ticks WHERE source = 'b' ORDER BY id")]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert rows(engine.db, "SELECT DISTINCT symbol FROM ticks") == [("BTCUSDT",)]


def test_source_that_trades_is_not_quiet(engine: Launcher) -> None:
    with MockExchange(rate=20) as exchange:
        engine.write_sources({"name": "a", "url": exchange.url(), "symbol": ""})
        process = engine.start(engine=FAST)
        process.heartbeat(lambda f: f["ticks_stored"] > 60)  # three times stale_after_s
        assert process.stop() == 0
    states = {beat["sources"]["a"] for beat in process.messages("HEARTBEAT")}
    assert "trading" in states
    assert "quiet" not in states


@pytest.mark.parametrize("stream", ["/ws/btcusdt@trade/ethusdt@trade", "/stream?streams=btcusdt@trade/ethusdt@trade"])
def test_outage_has_a_gap_for_each_symbol_of_the_url(engine: Launcher, stream: str) -> None:
    with MockExchange(rate=100, noise=0) as exchange:
        url = exchange.url().replace("/ws/btcusdt@trade", stream)
        engine.write_sources({"name": "a", "url": url, "symbol": ""})
        process = engine.start(engine=FAST)
        process.heartbeat(lambda f: f["ticks_stored"] > 0)
        exchange.command("close")
        behind = process.heartbeat()["ticks_stored"]
        process.heartbeat(lambda f: f["ticks_stored"] > behind + 20)
        assert process.stop() == 0
    assert set(rows(engine.db, "SELECT symbol FROM gaps WHERE kind = 'down'")) == {("BTCUSDT",), ("ETHUSDT",)}


def test_symbol_in_another_script(engine: Launcher) -> None:
    with MockExchange(rate=100, noise=0) as exchange:
        url = exchange.url().replace("btcusdt", "币安人生usdt")
        engine.write_sources({"name": "a", "url": url, "symbol": ""})
        process = engine.start(engine=FAST)
        process.heartbeat(lambda f: f["ticks_stored"] > 10)
        assert process.stop() == 0
    assert rows(engine.db, "SELECT DISTINCT symbol FROM ticks") == [("币安人生USDT",)]
