"""What an exchange repeats of its own accord after a reconnect fills what was missed; nothing else is taken of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.accounting import check_finished, rows
from tests.support.process import EngineProcess, Launcher
from tests.support.talking_exchange import Exchange, Line, exchange, kraken_yes

REAL: dict[str, Any] = {"ingest_mode": "REAL_WS", "network_deadline_s": 60}
T = 1_767_976_680_100


def of_kraken(kind: str, *numbers: int) -> dict[str, Any]:
    made = [
        {"symbol": "BTC/USD", "price": 100.0 + n, "qty": n / 7, "trade_id": n, "timestamp": "2026-01-09T16:38:00.1Z"}
        for n in numbers
    ]
    return {"channel": "trade", "type": kind, "data": made}


def of_coinbase(kind: str, number: int) -> dict[str, Any]:
    told = {"product_id": "BTC-USD", "price": str(100.0 + number), "size": str(number / 7)}
    return {"type": kind, "trade_id": number, "time": "2026-01-09T16:38:00.1Z", **told}


def of_gemini(number: int) -> dict[str, Any]:
    told = {"symbol": "BTCUSD", "price": str(100.0 + number), "quantity": str(number / 7)}
    return {"type": "trade", "event_id": number, "timestamp": T, **told}


def start(engine: Launcher, one: Exchange, kind: str, path: str) -> EngineProcess:
    engine.write_sources({"name": "x", "url": one.url(path), "kind": kind, "symbol": "BTC/USD"})
    return engine.start(engine=REAL)


def check_rows(engine: Launcher, numbers: list[int], filled: list[int], scale: int = 1) -> None:
    """The stored ticks are these, in this order, with their own values; those in `filled` are marked, and no others."""
    check_finished(engine.db)
    stored = rows(engine.db, "SELECT exchange_id, price, size, exchange_ms, filled FROM ticks ORDER BY id")
    assert stored == [(n, 100.0 + n // scale, n / scale / 7, T, int(n in filled)) for n in numbers]


@pytest.mark.holds("FILL")
def test_snapshot_of_kraken_fills_what_a_reconnect_missed(engine: Launcher) -> None:
    connections = 0

    def talk(line: Line) -> None:
        nonlocal connections
        connections += 1
        line.hear()
        if connections == 1:  # here nothing is missing: the snapshot is history
            line.say(kraken_yes("BTC/USD"), of_kraken("snapshot", 88, 89, 90), of_kraken("update", *range(91, 101)))
            line.connection.close(1001)
            return
        line.say(kraken_yes("BTC/USD"), of_kraken("snapshot", *range(110, 97, -1)), of_kraken("update", 111, 112))

    with exchange(talk) as kraken:
        process = start(engine, kraken, "kraken", "/v2")
        beat = process.heartbeat(lambda f: f["ticks_stored"] == 22)
        assert process.stop() == 0
    assert (beat["filled"], beat["missed"], beat["received"], beat["duplicate"]) == (10, 0, 22, 0)
    check_rows(engine, [*range(91, 113)], [*range(101, 111)])
    assert rows(engine.db, "SELECT DISTINCT kind FROM gaps") == [("down",)]
    assert process.messages("filled what was missing")[0]["trades"] == 10


@pytest.mark.holds("FILL", "MISSED")
def test_what_no_snapshot_has_stays_missed(engine: Launcher) -> None:
    connections = 0

    def talk(line: Line) -> None:
        nonlocal connections
        connections += 1
        line.hear()
        if connections == 1:
            line.say(kraken_yes("BTC/USD"), of_kraken("update", 1, 2))
            line.connection.close(1001)
            return
        line.say(kraken_yes("BTC/USD"), of_kraken("snapshot", 9, 10, 7), of_kraken("update", 11))

    with exchange(talk) as kraken:
        process = start(engine, kraken, "kraken", "/v2")
        process.heartbeat(lambda f: f["missed"] == 5)
        assert process.stop() == 0
    check_rows(engine, [1, 2, 7, 9, 10, 11], [7, 9, 10])
    assert rows(engine.db, "SELECT symbol, count FROM gaps WHERE kind = 'missed'") == [("BTC/USD", 5)]


@pytest.mark.holds("FILL", "MISSED")
def test_fill_that_comes_late_turns_missed_down(engine: Launcher) -> None:
    connections, second = 0, list[bool]()

    def talk(line: Line) -> None:
        nonlocal connections
        connections += 1
        line.hear()
        if connections == 1:
            line.say(kraken_yes("BTC/USD"), of_kraken("update", 1, 2), of_kraken("update", 6))  # 3, 4 and 5 are lost
            while not second:
                time.sleep(0.01)  # until the test has seen them counted
            line.connection.close(1001)
            return
        line.say(kraken_yes("BTC/USD"), of_kraken("snapshot", 3, 4, 5, 6, 7), of_kraken("update", 8))

    with exchange(talk) as kraken:
        process = start(engine, kraken, "kraken", "/v2")
        process.heartbeat(lambda f: f["missed"] == 3 and f["ticks_stored"] == 3)
        second.append(True)
        process.heartbeat(lambda f: f["missed"] == 0 and f["ticks_stored"] == 8)
        assert process.stop() == 0
    check_rows(engine, [1, 2, 6, 3, 4, 5, 7, 8], [3, 4, 5, 7])
    assert rows(engine.db, "SELECT count FROM gaps WHERE kind = 'missed'") == [(0,)]


@pytest.mark.holds("FILL")
def test_last_match_of_coinbase_fills_the_last_one_that_was_missed(engine: Launcher) -> None:
    connections = 0

    def talk(line: Line) -> None:
        nonlocal connections
        connections += 1
        line.hear()
        line.say({"type": "subscriptions", "channels": [{"name": "matches", "product_ids": ["BTC-USD"]}]})
        if connections == 1:
            line.say(of_coinbase("last_match", 10), of_coinbase("match", 11))
            line.connection.close(1001)
            return
        line.say(of_coinbase("last_match", 13), of_coinbase("match", 14))

    with exchange(talk) as coinbase:
        process = start(engine, coinbase, "coinbase", "/")
        process.heartbeat(lambda f: f["ticks_stored"] == 3 and f["missed"] == 1)
        assert process.stop() == 0
    check_rows(engine, [11, 13, 14], [13])


@pytest.mark.holds("FILL")
def test_history_of_gemini_fills_what_is_newer_than_the_last_one(engine: Launcher) -> None:
    """Its numbers do not count the trades, so nothing is missed; what is newer did not arrive before."""
    connections = 0

    def talk(line: Line) -> None:
        nonlocal connections
        connections += 1
        line.hear()
        older = [{**of_gemini(n), "event_id": 1000 * n} for n in range(1 + connections * 2, 0, -1)]
        line.say({"type": "l2_updates", "symbol": "BTCUSD", "changes": [], "trades": older})
        live = {**of_gemini(2 + connections * 2), "event_id": 1000 * (2 + connections * 2)}
        line.say(live)
        if connections == 1:
            line.connection.close(1001)

    with exchange(talk) as gemini:
        process = start(engine, gemini, "gemini_v2", "/v2/marketdata")
        beat = process.heartbeat(lambda f: f["ticks_stored"] == 3)
        assert process.stop() == 0
    assert (beat["filled"], beat["missed"]) == (1, 0)
    check_rows(engine, [4000, 5000, 6000], [5000], 1000)


@pytest.mark.holds("FILL")
def test_what_another_source_provided_is_not_filled(engine: Launcher) -> None:
    connections = 0

    def first(line: Line) -> None:
        nonlocal connections
        connections += 1
        line.hear()
        if connections == 1:
            line.say(kraken_yes("BTC/USD"), of_kraken("update", 1, 2))
            line.connection.close(1001)
            return
        line.say(kraken_yes("BTC/USD"), of_kraken("snapshot", 3, 4, 5))
        for number in range(6, 10_000):
            line.say(of_kraken("update", number))
            time.sleep(0.05)

    def second(line: Line) -> None:
        line.hear()
        line.say(kraken_yes("BTC/USD"))
        for number in range(3, 10_000):
            line.say(of_kraken("update", number))
            time.sleep(0.05)

    with exchange(first) as one, exchange(second) as two:
        engine.write_sources(
            {"name": "a", "url": one.url("/v2"), "kind": "kraken"},
            {"name": "b", "url": two.url("/v2"), "kind": "kraken"},
        )
        process = engine.start(engine={**REAL, "failback_after_s": 0.5, "stale_after_s": 5.0})
        process.heartbeat(lambda f: f["source"] == "b" and f["ticks_stored"] > 2)
        beat = process.heartbeat(lambda f: f["source"] == "a" and f["ticks_stored"] > 40)
        assert process.stop() == 0
    assert beat["filled"] == 0
    assert rows(engine.db, "SELECT sum(filled) FROM ticks") == [(0,)]
