"""A symbol that never trades, or is silent for longer than was set, is told of; a quiet market is not."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.support.accounting import rows
from tests.support.process import EngineProcess, Launcher, wait_until
from tests.support.scripted_exchange import ScriptedExchange, trade
from tests.support.talking_exchange import Line, exchange, kraken_no, kraken_yes

NEVER, SILENT = "symbol has not traded since it was asked for", "symbol is silent"
FAST: dict[str, Any] = {"ingest_mode": "REAL_WS", "network_deadline_s": 60, "heartbeat_interval_secs": 0.2}


def symbols_check(engine: Launcher) -> tuple[int, bool, str]:
    """The exit code of `health`, and what its check of the symbols says."""
    completed = engine.command("health", "--json", "--config", str(engine.folder / "config.toml"))
    (check,) = [check for check in json.loads(completed.stdout)["checks"] if check["name"] == "symbols"]
    return completed.returncode, check["ok"], check["detail"]


@pytest.mark.holds("UNFED")
def test_symbol_that_never_trades_is_told_once(engine: Launcher) -> None:
    def talk(line: Line) -> None:
        line.hear()
        line.say(kraken_yes("BTC/USD"), kraken_yes("FOO/USD"))
        line.trade_on("BTC/USD")

    with exchange(talk) as kraken:
        engine.write_sources(
            {"name": "k", "url": kraken.url("/v2"), "kind": "kraken", "symbols": ["BTC/USD", "FOO/USD"]}
        )
        process = engine.start(engine={**FAST, "never_traded_after_s": 1.0})
        process.heartbeat(lambda f: f["ticks_stored"] > 0)
        assert symbols_check(engine)[:2] == (0, True)
        told = process.wait(NEVER)
        beat = process.heartbeat(lambda f: f["silent_count"] == 1)
        wait_until(lambda: not symbols_check(engine)[1], "the check of the symbols")
        assert symbols_check(engine) == (1, False, "FOO/USD never traded at k, from no other")
        process.heartbeat(lambda f: f["ticks_stored"] > beat["ticks_stored"] + 100)  # two seconds
        assert process.stop() == 0
    assert (told["source"], told["symbol"]) == ("k", "FOO/USD")
    assert 1.0 <= told["for_s"] < 5.0
    assert len(process.messages(NEVER)) == process.final()["silent_count"] == 1


@pytest.mark.holds("UNFED")
def test_stream_that_binance_does_not_know_is_told(engine: Launcher, primary: ScriptedExchange) -> None:
    engine.write_sources(
        {"name": "b", "url": primary.url("btcusdt@trade/foousdt@trade"), "symbols": ["BTCUSDT", "FOOUSDT"]}
    )
    process = engine.start(engine={**FAST, "never_traded_after_s": 6.0, "dead_after_s": 1.5})
    wait_until(lambda: primary.open_connections, "the connection")
    primary.send(trade(1))
    told = process.wait(NEVER)
    assert (told["source"], told["symbol"]) == ("b", "FOOUSDT")
    primary.send(trade(1, "FOOUSDT"))
    assert process.wait("symbol trades")["symbol"] == "FOOUSDT"
    wait_until(lambda: symbols_check(engine)[:2] == (0, True), "health")
    assert process.stop() == 0


@pytest.mark.holds("UNFED", "QUIET")
def test_quiet_market_that_has_traded_is_healthy(engine: Launcher, primary: ScriptedExchange) -> None:
    engine.write_sources({"name": "b", "url": primary.url("btcusdt@trade")})
    process = engine.start(engine={**FAST, "never_traded_after_s": 0.5, "dead_after_s": 1.5, "stale_after_s": 0.5})
    wait_until(lambda: primary.open_connections, "the connection")
    primary.send(trade(1))
    process.wait("quiet market")
    count = len(process.messages("HEARTBEAT"))
    process.heartbeat(lambda f: len(process.messages("HEARTBEAT")) >= count + 8)  # three times the limit
    assert symbols_check(engine)[:2] == (0, True)
    assert process.stop() == 0
    assert process.messages(NEVER) == process.messages(SILENT) == []


@pytest.mark.holds("UNFED")
def test_symbol_beyond_the_limit_of_its_source_is_silent(
    engine: Launcher, primary: ScriptedExchange, secondary: ScriptedExchange
) -> None:
    engine.write_sources(
        {"name": "a", "url": primary.url("btcusdt@trade"), "symbol": "BTC/USDT", "silent_after_s": 0.5},
        {"name": "b", "url": secondary.url("ethusdt@trade"), "symbol": "ETH/USDT"},
    )
    process = engine.start(engine={**FAST, "dead_after_s": 1.5})
    wait_until(lambda: primary.open_connections and secondary.open_connections, "the connections")
    for number in (1, 2):
        primary.send(trade(number))
        secondary.send(trade(number, "ETHUSDT"))
        told = process.wait(SILENT, after=len(process.lines))
        assert (told["source"], told["symbol"]) == ("a", "BTC/USDT")
        wait_until(lambda: symbols_check(engine)[0] == 1, "health")
    assert symbols_check(engine)[2] == "BTC/USDT silent at a, from no other"
    assert process.stop() == 0
    assert process.final()["silent_count"] == 2


@pytest.mark.holds("UNFED")
def test_symbol_that_another_source_brings_is_healthy(engine: Launcher) -> None:
    def refuse(line: Line) -> None:
        line.hear()
        line.say(kraken_yes("BTC/USD"), kraken_no("FOO/USD"))
        line.trade_on("BTC/USD")

    def serve(line: Line) -> None:
        line.hear()
        line.say(kraken_yes("FOO/USD"))
        line.trade_on("FOO/USD")

    with exchange(refuse) as first, exchange(serve) as second:
        engine.write_sources(
            {"name": "a", "url": first.url("/v2"), "kind": "kraken", "symbols": ["BTC/USD", "FOO/USD"]},
            {"name": "b", "url": second.url("/v2"), "kind": "kraken", "symbols": ["FOO/USD"]},
        )
        process = engine.start(engine=FAST)
        process.heartbeat(lambda f: f["source"] == "a, b" and f["ticks_stored"] > 50)
        assert symbols_check(engine) == (0, True, "FOO/USD refused at a, from b")
        assert process.stop() == 0


@pytest.mark.holds("UNFED")
def test_symbol_that_every_source_refuses_is_unhealthy(engine: Launcher) -> None:
    def refuse(line: Line) -> None:
        line.hear()
        line.say(kraken_yes("BTC/USD"), kraken_no("FOO/USD"))
        line.trade_on("BTC/USD")

    with exchange(refuse) as kraken:
        engine.write_sources(
            {"name": "a", "url": kraken.url("/v2"), "kind": "kraken", "symbols": ["BTC/USD", "FOO/USD"]}
        )
        process = engine.start(engine=FAST)
        process.heartbeat(lambda f: f["ticks_stored"] > 50)
        assert symbols_check(engine) == (1, False, "FOO/USD refused at a, from no other")
        assert process.stop() == 0


@pytest.mark.holds("UNFED")
def test_trades_under_a_name_that_nothing_names_are_trades(engine: Launcher, primary: ScriptedExchange) -> None:
    process = engine.start(
        engine={**FAST, "ingest_mode": "MOCK_WS", "ws_url": primary.url(""), "never_traded_after_s": 0.5}
    )
    wait_until(lambda: primary.open_connections, "the connection")
    for number in range(1, 12):
        primary.send(trade(number))
        process.heartbeat(lambda f, n=number: f["ticks_stored"] == n)  # type: ignore[misc]
    assert process.stop() == 0
    assert process.messages(NEVER) == []


def start_beside(exchange: ScriptedExchange, engine: Launcher) -> EngineProcess:
    engine.write_sources({"name": "b", "url": exchange.url("btcusdt@trade")})
    return engine.start(engine=FAST)


@pytest.mark.holds("PACE")
def test_pause_that_the_exchange_asked_for_outlives_the_process(engine: Launcher, primary: ScriptedExchange) -> None:
    primary.refusal = b"HTTP/1.1 429 Too Many\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n"
    process = start_beside(primary, engine)
    assert process.wait("source failed")["hold_s"] == 600
    assert process.stop() == 0
    ((state,),) = rows(engine.db, "SELECT state FROM runs")
    assert 590_000 < json.loads(state)["holds"][f"127.0.0.1:{primary.port}"] - time.time() * 1000 <= 600_000
    for _ in range(2):  # it is passed on from run to run
        process = start_beside(primary, engine)
        assert 580 < process.wait("the exchange asked for a pause")["hold_s"] <= 600
        process.heartbeat(lambda f: f["sources"] == {"b": "off"})
        assert process.stop() == 0
    assert len(primary.attempts) == 1
