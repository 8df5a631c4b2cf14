"""Hot standby, stale sources and sequence gaps: the whole engine against mock exchanges in other processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import pairwise

import pytest

from proofs.mock_exchange import MockExchange
from tests.support.accounting import check_finished, rows
from tests.support.process import Launcher

FAST = {"ingest_mode": "REAL_WS", "dead_after_s": 1.0, "network_deadline_s": 60}
TOOK_OVER_MS = 50


FAULTS: dict[str, Callable[[MockExchange], object]] = {
    "closes": lambda exchange: exchange.command("close"),
    "ends": lambda exchange: exchange.kill(signal.SIGKILL),
    "dead silence": lambda exchange: exchange.kill(signal.SIGSTOP),
}


@pytest.mark.holds("STANDBY", "FAILOVER")
@pytest.mark.parametrize("fault", FAULTS)
def test_hot_standby_loses_no_trade(engine: Launcher, fault: str) -> None:
    with MockExchange(rate=200) as first, MockExchange(rate=200, first_id=1_000_000) as second:
        engine.write_sources({"name": "first", "url": first.url()}, {"name": "second", "url": second.url()})
        process = engine.start(engine={**FAST, "standby": "hot"})
        process.heartbeat(lambda f: f["sources"] == {"first": "trading", "second": "standby"})
        process.heartbeat(lambda f: f["ticks_stored"] > 50)
        FAULTS[fault](first)
        process.heartbeat(lambda f: f["source"] == "second" and f["sources_connected"] >= 1)
        behind = len(process.lines)
        process.heartbeat(lambda f: f["ticks_stored"] > 300, after=behind)
        accepted = second.stats()["accepted"]
        assert process.stop() == 0
    run = check_finished(engine.db)
    assert accepted == 1  # it was connected already
    assert (run["dropped"], run["rejected"]) == (0, 0)
    query = "SELECT received_ms, exchange_id FROM ticks WHERE source = ? ORDER BY id"
    ours, theirs = rows(engine.db, query, "first"), rows(engine.db, query, "second")
    ids = [number for _, number in theirs]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert ids[0] > 1_000_000  # its trades from before the failover belong to the first source
    # On a busy machine the exchange itself may pause; its next trade may be later by as much.
    pause_ms = max(later - earlier for (earlier, _), (later, _) in pairwise(theirs))
    assert 0 <= theirs[0][0] - ours[-1][0] <= TOOK_OVER_MS + pause_ms


@pytest.mark.holds("STALE")
def test_stale_source_is_left_for_one_that_trades(engine: Launcher) -> None:
    with MockExchange(rate=100, noise=1) as first, MockExchange(rate=100, first_id=1_000_000) as second:
        engine.write_sources({"name": "first", "url": first.url()}, {"name": "second", "url": second.url()})
        process = engine.start(engine={**FAST, "stale_after_s": 1.0})
        process.heartbeat(lambda f: f["source"] == "first" and f["ticks_stored"] > 0)
        first.command("silent", what="trades")
        failed = process.wait("source failed")
        result = process.heartbeat(lambda f: f["source"] == "second" and f["ticks_stored"] > 100)
        assert (result["stale_count"], result["dead_count"], result["source_failures"]) == (1, 0, 1)
        assert process.stop() == 0
    assert failed["reason"] == "stale: no trade of BTC/USD for 1 s while second trades"
    check_finished(engine.db)
    stale = rows(engine.db, "SELECT source, symbol, count, from_ms, to_ms FROM gaps WHERE kind = 'stale' ORDER BY id")
    assert {row[:3] for row in stale} == {("first", "BTC/USD", None)}
    (last,) = rows(engine.db, "SELECT max(received_ms) FROM ticks WHERE source = 'first'")[0]
    (new,) = rows(engine.db, "SELECT min(received_ms) FROM ticks WHERE source = 'second'")[0]
    assert (
        abs(stale[0][3] - last) <= 500
    )  # two clocks, read one after the other; the failure is detected a second later
    assert stale[-1][4] == new
    assert [row[4] for row in stale[:-1]] == [row[3] for row in stale[1:]]
    assert rows(engine.db, "SELECT id FROM gaps WHERE kind = 'down'") == []


def test_silence_limits_are_reloadable(engine: Launcher) -> None:
    with MockExchange(rate=100, noise=0, ping=0) as exchange:
        engine.write_sources({"name": "x", "url": exchange.url()})
        process = engine.start(engine={**FAST, "dead_after_s": 3600})
        process.heartbeat(lambda f: f["ticks_stored"] > 0)
        exchange.command("pause")
        assert process.heartbeat(lambda f: f["sources"] == {"x": "trading"})["quiet_count"] == 0
        engine.write_config({"engine": {**FAST, "stale_after_s": 0.5, "dead_after_s": 0.9}})
        process.send(signal.SIGHUP)
        process.heartbeat(lambda f: f["quiet_count"] == 1 and f["sources"] == {"x": "quiet"})
        exchange.command("silent")
        process.wait("source failed", lambda f: f["reason"].startswith("dead: nothing came for 0.9 s"))
        process.heartbeat(lambda f: f["dead_count"] == 1)
        assert process.stop() == 0


@pytest.mark.holds("MISSED")
@pytest.mark.parametrize("kind", ["binance", "gemini_v1"])
def test_sequence_gap_is_counted_and_stored(engine: Launcher, kind: str) -> None:
    with MockExchange(rate=200, heartbeat=0.3) as exchange:
        symbol = "btcusd" if kind == "gemini_v1" else "btcusdt"
        engine.write_sources({"name": "x", "url": exchange.url(kind, symbol), "kind": kind})
        process = engine.start(engine=FAST)
        process.heartbeat(lambda f: f["ticks_stored"] > 0)
        exchange.command("lose", n=3)
        process.heartbeat(lambda f: f["missed"] == 3)
        exchange.command("lose", n=2)
        process.heartbeat(lambda f: f["missed"] == 5)
        if kind == "binance":  # its ids continue across connections; Gemini's numbers restart with each connection
            exchange.command("close")
            exchange.command("lose", n=4)
        process.heartbeat(lambda f: f["missed"] >= (9 if kind == "binance" else 5))
        lost = exchange.stats()["lost"]
        assert process.stop() == 0
    check_finished(engine.db)
    missed = process.final()["missed"]
    gaps = rows(
        engine.db, "SELECT source, symbol, sum(count), count(*), max(to_ms IS NULL) FROM gaps WHERE kind = 'missed'"
    )
    assert gaps[0][:3] == ("x", "BTC/USD", missed)
    assert gaps[0][4] == 0
    assert missed == lost == (9 if kind == "binance" else 5)
