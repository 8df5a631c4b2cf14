"""What an exchange refuses, or does not acknowledge: the rest is recorded, and only what it brings is a sign of use."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.accounting import check_finished, rows
from tests.support.process import Launcher, wait_until
from tests.support.talking_exchange import (
    HELLO,
    NUMBERS,
    Line,
    Talk,
    exchange,
    kraken_no,
    kraken_trade,
    kraken_yes,
)

FAST = {"ingest_mode": "REAL_WS", "dead_after_s": 1.0, "network_deadline_s": 60, "heartbeat_interval_secs": 0.2}
COINBASE_NO = {"type": "error", "message": "Failed to subscribe", "reason": "FOO-USD is not a valid product"}


def coinbase_trade(product: str) -> dict[str, Any]:
    amounts = {"size": "0.1", "price": "60000.1", "trade_id": next(NUMBERS)}
    return {"type": "match", "product_id": product, "time": "2026-01-09T16:38:00.1Z", **amounts}


@pytest.mark.holds("USE")
def test_refused_symbol_leaves_the_others_recorded(engine: Launcher) -> None:
    def talk(line: Line) -> None:
        line.hear()
        line.say(HELLO, kraken_yes("BTC/USD"), kraken_no("FOO/USD"))
        line.trade_on("BTC/USD")

    with exchange(talk) as kraken:
        engine.write_sources(
            {"name": "k", "url": kraken.url("/v2"), "kind": "kraken", "symbols": ["BTC/USD", "FOO/USD"]}
        )
        process = engine.start(engine=FAST)
        told = process.wait("symbol refused")
        process.heartbeat(lambda f: f["ticks_stored"] > 100)
        assert process.stop() == 0
    assert told["symbol"] == "FOO/USD"
    assert told["reason"] == "Currency pair not supported FOO/USD"
    assert len(kraken.requests) == 1
    assert len(kraken.requests[0]) == 1
    assert len(process.messages("symbol refused")) == 1
    check_finished(engine.db)
    assert rows(engine.db, "SELECT DISTINCT kind, source, symbol FROM gaps") == [("down", "k", "FOO/USD")]
    ids = [number for (number,) in rows(engine.db, "SELECT exchange_id FROM ticks ORDER BY id")]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


@pytest.mark.holds("USE")
def test_product_that_spoils_a_request_is_left_out_of_the_next(engine: Launcher) -> None:
    def talk(line: Line) -> None:
        while "FOO-USD" in line.hear()["product_ids"]:
            line.say(COINBASE_NO)
        line.say({"type": "subscriptions", "channels": [{"name": "matches", "product_ids": ["BTC-USD"]}]})
        while True:
            line.say(coinbase_trade("BTC-USD"))
            time.sleep(0.02)

    with exchange(talk) as coinbase:
        engine.write_sources(
            {"name": "c", "url": coinbase.url("/"), "kind": "coinbase", "symbols": ["BTC-USD", "FOO-USD"]}
        )
        process = engine.start(engine=FAST)
        process.heartbeat(lambda f: f["ticks_stored"] > 100)
        assert process.stop() == 0
    assert [request["product_ids"] for request in coinbase.requests[0]] == [["BTC-USD", "FOO-USD"], ["BTC-USD"]]
    assert len(coinbase.requests) == 1
    assert process.messages("symbol refused")[0]["reason"] == "Failed to subscribe: FOO-USD is not a valid product"
    assert rows(engine.db, "SELECT DISTINCT kind, symbol FROM gaps") == [("down", "FOO-USD")]


@pytest.mark.holds("USE")
@pytest.mark.parametrize("text", ["Invalid symbol.", "Invalid symbol: foousd@trade"])
def test_refused_request_of_gemini_is_made_anew_for_each_symbol(engine: Launcher, text: str) -> None:
    def talk(line: Line) -> None:
        served: list[str] = []
        told = "foousd" in text
        while len(served) < 2 or not told:
            request = line.hear()
            if "foousd@trade" in request["params"]:
                told = told or len(request["params"]) == 1
                line.say({"id": request["id"], "status": 400, "error": {"code": -1121, "msg": text}})
            else:
                line.say({"id": request["id"], "status": 200})
                served += [stream.partition("@")[0] for stream in request["params"]]
        while True:
            for symbol in served:
                number = next(NUMBERS)
                line.say({"E": 1_700_000_000 * 10**9, "s": symbol, "t": number, "p": "1.5", "q": "1", "m": True})
            time.sleep(0.02)

    with exchange(talk) as gemini:
        symbols = ["BTC/USD", "FOO/USD", "ETH/USD"]
        engine.write_sources({"name": "g", "url": gemini.url("/"), "kind": "gemini", "symbols": symbols})
        process = engine.start(engine=FAST)
        told = process.wait("symbol refused")
        process.heartbeat(lambda f: f["ticks_stored"] > 100)
        assert process.stop() == 0
    assert (told["symbol"], told["reason"]) == ("FOO/USD", f"400: -1121: {text}")
    assert len(process.messages("symbol refused")) == 1
    assert len(gemini.requests) == 1
    assert rows(engine.db, "SELECT DISTINCT symbol FROM ticks ORDER BY 1") == [("BTC/USD",), ("ETH/USD",)]


@pytest.mark.holds("USE")
@pytest.mark.parametrize("kind", ["coinbase", "kraken"])
def test_symbol_that_no_acknowledgement_has_is_told(engine: Launcher, kind: str) -> None:
    def talk(line: Line) -> None:
        line.hear()
        if kind == "kraken":
            line.say(kraken_yes("BTC/USD"))
        else:
            line.say({"type": "subscriptions", "channels": [{"name": "matches", "product_ids": ["BTC-USD"]}]})
        while True:
            line.say(kraken_trade("BTC/USD") if kind == "kraken" else coinbase_trade("BTC-USD"))
            time.sleep(0.02)

    with exchange(talk) as one:
        path = "/v2" if kind == "kraken" else "/"
        engine.write_sources({"name": "x", "url": one.url(path), "kind": kind, "symbols": ["BTC/USD", "FOO/USD"]})
        process = engine.start(engine=FAST)
        told = process.wait("symbol refused")
        process.heartbeat(lambda f: f["ticks_stored"] > 50)
        assert process.stop() == 0
    reason = "not acknowledged within 1 s" if kind == "kraken" else "missing in what the exchange acknowledged"
    assert (told["symbol"], told["reason"]) == ("FOO/USD", reason)
    assert len(one.requests) == 1


@pytest.mark.holds("USE")
def test_symbol_refused_by_one_source_comes_from_another(engine: Launcher) -> None:
    def refuse(line: Line) -> None:
        line.hear()
        line.say(kraken_yes("BTC/USD"), kraken_no("FOO/USD"))
        line.trade_on("BTC/USD")

    def serve_both(line: Line) -> None:
        line.hear()
        line.say(kraken_yes("BTC/USD"), kraken_yes("FOO/USD"))
        line.trade_on("BTC/USD", "FOO/USD")

    with exchange(refuse) as first, exchange(serve_both) as second:
        engine.write_sources(
            *(
                {"name": name, "url": one.url("/v2"), "kind": "kraken", "symbols": ["BTC/USD", "FOO/USD"]}
                for name, one in (("a", first), ("b", second))
            )
        )
        process = engine.start(engine=FAST)
        process.heartbeat(lambda f: f["source"] == "a, b" and f["ticks_stored"] > 100)
        assert process.stop() == 0
    check_finished(engine.db)
    query = "SELECT DISTINCT source, symbol FROM ticks ORDER BY source, symbol"
    assert rows(engine.db, query) == [("a", "BTC/USD"), ("b", "FOO/USD")]


def hello_and_close(line: Line) -> None:
    line.say(HELLO)
    line.connection.close(1013, "try again later")


def heartbeats_alone(line: Line) -> None:
    line.hear()
    while True:
        line.say({"channel": "heartbeat"})
        time.sleep(0.1)


def refuse_each_product(line: Line) -> None:
    while True:
        product = line.hear()["product_ids"][-1]
        line.say({**COINBASE_NO, "reason": f"{product} is not a valid product"})


def say(*frames: object) -> Talk:
    def talk(line: Line) -> None:
        line.say(*frames)

    return talk


NO_USE: dict[str, tuple[str, str, list[str], Talk, str]] = {
    "a hello, and a close": ("kraken", "/v2", ["BTC/USD"], hello_and_close, "code 1013: try again later"),
    "heartbeats alone": ("kraken", "/v2", ["BTC/USD"], heartbeats_alone, "refused: not acknowledged within 1 s"),
    "each product refused": (
        "coinbase",
        "/",
        ["BTC-USD", "FOO-USD"],
        refuse_each_product,
        "refused: Failed to subscribe: BTC-USD is not a valid product",
    ),
    "an error of Binance": (
        "binance",
        "/ws/btcusdt@trade",
        ["BTCUSDT"],
        say({"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 2}),
        "refused: 2: Invalid request: invalid stream",
    ),
    "an error of Kraken": (
        "kraken",
        "/v2",
        ["BTC/USD"],
        say({"error": "Malformed request", "method": "error", "success": False}),
        "refused: Malformed request",
    ),
}


@pytest.mark.holds("USE")
@pytest.mark.parametrize("case", NO_USE)
def test_source_that_brings_nothing_is_of_no_use(engine: Launcher, case: str) -> None:
    kind, path, symbols, talk, reason = NO_USE[case]
    with exchange(talk) as one:
        engine.write_sources({"name": "x", "url": one.url(path), "kind": kind, "symbols": symbols})
        process = engine.start(engine={**FAST, "network_deadline_s": 2.0})
        assert process.code() == 10
    assert reason in process.messages("source failed")[0]["reason"]
    assert rows(engine.db, "SELECT exit_code, last_frame_ms FROM runs") == [(10, None)]  # which health goes by
    silent = [symbol for (symbol,) in rows(engine.db, "SELECT DISTINCT symbol FROM gaps WHERE kind = 'down'")]
    assert sorted(silent) == sorted(symbols)


@pytest.mark.holds("USE")
def test_frames_that_nobody_understands_are_no_use(engine: Launcher) -> None:
    def talk(line: Line) -> None:
        while True:
            line.say({"channel": "market_trades", "events": [{"type": "update"}]})
            time.sleep(0.05)

    with exchange(talk) as one:
        engine.write_sources({"name": "x", "url": one.url("/ws/btcusdt@trade")})
        process = engine.start(engine={**FAST, "network_deadline_s": 2.5})
        told = process.wait("nothing that the source sends is understood")
        assert process.code() == 10
    assert told["frames"] > 1
    assert "market_trades" in told["frame"]
    assert len(process.messages("nothing that the source sends is understood")) == 1
    assert rows(engine.db, "SELECT last_frame_ms FROM runs") == [(None,)]


@pytest.mark.holds("USE")
def test_complaint_about_nothing_in_particular_is_told_and_the_trades_go_on(engine: Launcher) -> None:
    def talk(line: Line) -> None:
        line.hear()
        line.say(kraken_yes("BTC/USD"), kraken_trade("BTC/USD"), {"error": "Exceeded msg rate", "success": False})
        line.trade_on("BTC/USD")

    with exchange(talk) as kraken:
        engine.write_sources({"name": "k", "url": kraken.url("/v2"), "kind": "kraken", "symbols": ["BTC/USD"]})
        process = engine.start(engine=FAST)
        assert process.wait("the exchange complains")["reason"] == "Exceeded msg rate"
        process.heartbeat(lambda f: f["ticks_stored"] > 50)
        assert process.stop() == 0
    assert len(kraken.requests) == 1


def test_acknowledged_source_is_of_use_in_a_quiet_market(engine: Launcher) -> None:
    def talk(line: Line) -> None:
        line.hear()
        line.say(kraken_yes("BTC/USD"))

    with exchange(talk) as kraken:
        engine.write_sources({"name": "k", "url": kraken.url("/v2"), "kind": "kraken", "symbols": ["BTC/USD"]})
        process = engine.start(engine={**FAST, "network_deadline_s": 1.0})
        process.ready()
        wait_until(lambda: len(process.messages("HEARTBEAT")) > 15, "three times the deadline")
        assert process.stop() == 0
    assert process.messages("source failed") == []
    ((seen_ms,),) = rows(engine.db, "SELECT last_frame_ms FROM runs")
    assert seen_ms is not None
