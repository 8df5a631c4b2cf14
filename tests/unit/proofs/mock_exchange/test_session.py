"""Connections over real sockets: exact counts, reconnects, sharing, captures."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from proofs.mock_exchange import PATHS, MockExchange
from tests.support.exchange_client import Client, trades_in

FRAMES = Path(__file__).resolve().parents[3] / "data" / "frames"


@pytest.mark.parametrize("kind", sorted(PATHS))
def test_every_kind_sends_each_trade_once_in_order(kind: str) -> None:
    with MockExchange(count=200, rate=0) as exchange:
        with Client(exchange.url(kind, "btcusd")) as client:
            client.read_until(lambda c: len(c.ids) == 200)
            stats = exchange.wait(complete=1)
        assert client.ids == list(range(1, 201))
        assert stats["sent"] == 200
        assert stats["sent_by_symbol"] == {"BTCUSD": 200}
        noise = [frame for frame in client.parsed if not trades_in(frame)]
        assert len(noise) >= stats["noise"] > 50
    assert exchange.final is not None
    (connection,) = exchange.final["connections"]
    assert (connection["sent"], connection["first_number"], connection["last_number"]) == (200, 1, 200)
    assert connection["closed_ms"] >= connection["last_sent_ms"] >= connection["accepted_ms"]


@pytest.mark.parametrize("kind", ["binance", "gemini_v1", "gemini_v2"])
def test_ids_continue_after_a_reconnect(kind: str) -> None:
    with MockExchange(count=2003, rate=0, close_after=1007, noise=0.25) as exchange:
        with Client(exchange.url(kind, "btcusd")) as first:
            first.read_until(lambda c: False)
        assert (first.ids, first.close_code) == (list(range(1, 1008)), 1001)
        with Client(exchange.url(kind, "btcusd")) as second:
            second.read_until(lambda c: len(c.ids) == 996)
            exchange.wait(sent=2003)
            assert second.ids == list(range(1008, 2004))
        assert [one["sent"] for one in exchange.stats()["connections"]] == [1007, 996]


@pytest.mark.parametrize("who", ["client", "exchange"])
def test_unsent_trades_go_to_the_next_connection(who: str) -> None:
    """A client that reads nothing fills its socket; when it is gone, no number is missing or doubled."""
    with MockExchange(count=60_000, rate=0, noise=0) as exchange:
        with Client(exchange.url()) as slow:
            stalled = exchange.wait(sent=100)
            while (now := exchange.stats(brief=True))["sent"] != stalled["sent"]:
                stalled = now
            assert now["in_flight"] == 1
            if who == "exchange":
                exchange.command("abort")
            elif slow.ws.sock is not None:
                slow.ws.sock.shutdown(socket.SHUT_RDWR)
        exchange.wait(open=0)
        handed = exchange.stats()["connections"][0]["last_number"]
        with Client(exchange.url()) as fresh:
            fresh.read_until(lambda c: len(c.ids) == 60_000 - handed, timeout=40)
            assert fresh.ids == list(range(handed + 1, 60_001))
            assert exchange.wait(complete=1)["sent"] == 60_000


def test_connections_share_the_run_fairly() -> None:
    with MockExchange(count=400, rate=2000, noise=0) as exchange:
        with Client(exchange.url("binance")) as one, Client(exchange.url("gemini_v1")) as two:
            exchange.wait(complete=1)
            shares = [connection["sent"] for connection in exchange.stats()["connections"]]
            one.read_until(lambda c: len(c.ids) == shares[0])
            two.read_until(lambda c: len(c.ids) == shares[1])
        assert sorted(one.ids + two.ids) == list(range(1, 401))
        assert min(shares) > 100


def test_each_connection_gets_all_trades() -> None:
    with MockExchange(count=30, rate=0, each=True) as exchange:
        for _ in range(2):
            with Client(exchange.url()) as client:
                assert client.read_until(lambda c: len(c.ids) == 30).ids == list(range(1, 31))
        assert exchange.wait(sent=60)["sent"] == 60


def test_no_compression_and_pings_are_answered() -> None:
    with MockExchange(hold=True, ping=0.05) as exchange, Client(exchange.url(), timeout=5) as client:
        assert "sec-websocket-extensions" not in client.ws.headers
        client.ws.ping("are you there")
        frames = [client.ws.recv_data_frame(control_frame=True)[1] for _ in range(4)]
        assert "are you there" in {frame.data.decode() for frame in frames}
        assert 9 in {frame.opcode for frame in frames}  # the exchange pings by itself


def test_capture_plays_in_laps_with_rising_ids_and_times() -> None:
    """Thirty recorded trades of several symbols, three laps, all of them of the subscribed symbol."""
    captures = [str(FRAMES / "binance_futures.jsonl")]
    recorded = [
        frame["data"]["p"]
        for line in Path(captures[0]).read_text(encoding="utf-8").splitlines()
        if trades_in(frame := json.loads(json.loads(line)["frame"]))
    ]
    settings = {"captures": captures, "count": 90, "rate": 0, "clock": "recorded"}
    with MockExchange(**settings) as exchange, Client(exchange.url("binance_combined")) as client:
        client.read_until(lambda c: len(c.ids) == 90)
    trades = [frame["data"] for frame in client.parsed if trades_in(frame)]
    assert [one["p"] for one in trades] == recorded * 3
    assert client.ids == list(range(1, 91))
    assert {one["s"] for one in trades} == {"BTCUSDT"}
    times = [one["T"] for one in trades]
    assert times == sorted(times)
    assert times[30] > times[29]
    assert {kind for frame in client.parsed if (kind := frame["data"].get("e")) != "aggTrade"} >= {
        "bookTicker",
        "depthUpdate",
        "kline",
    }


def test_recorded_symbols_are_kept() -> None:
    captures = [str(FRAMES / "gemini_v2.jsonl")]
    with MockExchange(captures=captures, count=24, rate=0, keep_symbols=True) as exchange:
        with Client(exchange.url("gemini_v2"), subscribe=False) as client:
            client.ws.send('{"type":"subscribe","subscriptions":[{"name":"l2","symbols":["FILUSD","ALCXUSD"]}]}')
            client.read_until(lambda c: len(c.ids) == 24)
        by_symbol = exchange.wait(complete=1)["sent_by_symbol"]
    assert set(by_symbol) == {"FILUSD", "ALCXUSD"}
    assert by_symbol["FILUSD"] > by_symbol["ALCXUSD"]


def test_same_seed_sends_same_frames() -> None:
    def play() -> list[str]:
        settings = {"seed": 5, "count": 50, "rate": 0, "clock": "recorded", "noise": 0}
        with MockExchange(**settings) as exchange, Client(exchange.url("binance_agg")) as client:
            return client.read_until(lambda c: len(c.ids) == 50).frames

    assert play() == play()
