"""What makes two trades one: all that was told of them. And what is no trade at all."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.accounting import check_finished, rows
from tests.support.process import Launcher, wait_until
from tests.support.scripted_exchange import ScriptedExchange


def trade(number: int, price: float, time_ms: int, **more: str) -> str:
    body = {"e": "trade", "E": time_ms, "s": "BTCUSDT", "t": number, "p": str(price), "q": "1", "T": time_ms, "m": True}
    return json.dumps({**body, **more} if more else {**body, "M": True})


@pytest.mark.holds("IDENTITY")
@pytest.mark.parametrize("older", [False, True])
def test_numbers_that_begin_anew_are_other_trades(engine: Launcher, primary: ScriptedExchange, older: bool) -> None:
    now = int(time.time() * 1000)
    first = [trade(number, 100.0 + number, now + number) for number in range(1, 101)]
    anew = [trade(number, 200.0 + number, now + (-5000 if older else 5000) + number) for number in range(1, 101)]
    engine.write_sources({"name": "b", "url": primary.url()})
    process = engine.start(engine={"ingest_mode": "REAL_WS"})
    wait_until(lambda: primary.open_connections, "the connection")
    primary.send(*first)
    process.heartbeat(lambda f: f["ticks_stored"] == 100)
    primary.open_connections[0].close()
    wait_until(lambda: len(primary.connections) == 2, "the next connection")
    primary.send(*anew)
    process.heartbeat(lambda f: f["ticks_stored"] == 200)
    primary.send(*first, *anew[50:], *(trade(number, 300.0, now) for number in (101, 102, 105)))
    beat = process.heartbeat(lambda f: f["missed"] == 2)  # 103 and 104
    assert (beat["ticks_stored"], beat["duplicate"]) == (203, 150)
    assert process.stop() == 0
    check_finished(engine.db)
    prices = [price for (price,) in rows(engine.db, "SELECT price FROM ticks ORDER BY id")]
    assert prices == [*(100.0 + n for n in range(1, 101)), *(200.0 + n for n in range(1, 101)), *[300.0] * 3]
    assert process.wait("numbers are used again for other trades")["symbol"] == "BTC/USD"


@pytest.mark.holds("BYTES", "MISSED")
def test_placeholders_of_futures_are_no_trades(engine: Launcher, primary: ScriptedExchange) -> None:
    now = int(time.time() * 1000)
    holders = [
        trade(n, 0, now, X=kind) for n, kind in zip(range(2, 22), ["NA", "INSURANCE_FUND", "ADL", ""] * 5, strict=True)
    ]
    engine.write_sources({"name": "b", "url": primary.url()})
    process = engine.start(engine={"ingest_mode": "REAL_WS", "parse_error_limit": 3})
    wait_until(lambda: primary.open_connections, "the connection")
    primary.send(trade(1, 5.0, now, X="MARKET"), *holders, trade(22, 6.0, now, X="MARKET"))
    process.heartbeat(lambda f: f["ticks_stored"] == 2)
    assert process.stop() == 0
    final = process.final()
    assert (final["received"], final["rejected"], final["missed"], final["source_failures"]) == (2, 0, 0, 0)


def test_time_beyond_a_day_is_told_and_counted(engine: Launcher, primary: ScriptedExchange) -> None:
    now, day = int(time.time() * 1000), 86_400_000
    engine.write_sources({"name": "b", "url": primary.url()})
    process = engine.start(engine={"ingest_mode": "REAL_WS"})
    wait_until(lambda: primary.open_connections, "the connection")
    times = [now, now - day + 60_000, now - 2 * day, now + 2 * day]
    primary.send(*(trade(number, 5.0, time_ms) for number, time_ms in enumerate(times, 1)))
    assert process.heartbeat(lambda f: f["ticks_stored"] == 4)["times_off"] == 2
    assert process.stop() == 0
    assert len(process.messages("the time of a trade is more than a day from the clock")) == 1
    assert rows(engine.db, "SELECT exchange_ms FROM ticks ORDER BY id") == [(time_ms,) for time_ms in times]
