"""The mock exchange over real sockets: every path, exact counts, reconnects, query parameters."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from proofs.mock_exchange import PATHS, MockExchange
from tests.support.exchange_client import SUBSCRIBE, Client, trades_in

FRAMES = Path(__file__).resolve().parents[3] / "data" / "frames"


@pytest.mark.parametrize("kind", sorted(PATHS))
def test_every_path_gives_the_trades_once_in_order_among_noise(kind: str) -> None:
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
def test_ids_go_on_over_a_reconnect_after_so_many(kind: str) -> None:
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
def test_what_a_slow_client_did_not_take_goes_to_the_next_connection(who: str) -> None:
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


def test_connections_at_the_same_time_share_the_run_and_neither_starves() -> None:
    with MockExchange(count=400, rate=2000, noise=0) as exchange:
        with Client(exchange.url("binance")) as one, Client(exchange.url("gemini_v1")) as two:
            exchange.wait(complete=1)
            shares = [connection["sent"] for connection in exchange.stats()["connections"]]
            one.read_until(lambda c: len(c.ids) == shares[0])
            two.read_until(lambda c: len(c.ids) == shares[1])
        assert sorted(one.ids + two.ids) == list(range(1, 401))
        assert min(shares) > 100


def test_each_gives_every_connection_all_of_them() -> None:
    with MockExchange(count=30, rate=0, each=True) as exchange:
        for _ in range(2):
            with Client(exchange.url()) as client:
                assert client.read_until(lambda c: len(c.ids) == 30).ids == list(range(1, 31))
        assert exchange.wait(sent=60)["sent"] == 60


def test_gemini_v1_numbers_every_message_heartbeats_included() -> None:
    with MockExchange(rate=100, heartbeat=0.05, trades_per_frame=3) as exchange:
        with Client(exchange.url("gemini_v1", "btcusd")) as client:
            client.read_until(lambda c: len(c.ids) > 60 and '{"type":"heartbeat"' in "".join(c.frames))
        assert [frame["socket_sequence"] for frame in client.parsed] == list(range(len(client.frames)))
        assert client.ids == list(range(1, len(client.ids) + 1))
        first = client.parsed[0]["events"]
        assert {event["reason"] for event in first} == {"initial"}
        assert {event["side"] for event in first} == {"bid", "ask"}
        assert any(len(trades_in(frame)) == 3 for frame in client.parsed)


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("bids=false&offers=false&trades=true", {("trade", None)}),
        ("bids=true&offers=false&trades=false", {("change", "bid")}),
        ("bids=false&offers=true&trades=false", {("change", "ask")}),
        ("", {("trade", None), ("change", "bid"), ("change", "ask")}),
        ("trades=true", {("trade", None)}),
    ],
)
def test_gemini_v1_respects_what_was_asked(query: str, kinds: set[tuple[str, str | None]]) -> None:
    with MockExchange(count=40, rate=0, heartbeat=0.05) as exchange:
        url = f"ws://127.0.0.1:{exchange.port}/v1/marketdata/btcusd?{query}&heartbeat=true"
        with Client(url) as client:
            client.read_until(lambda c: sum('"heartbeat"' in text for text in c.frames) == 3)
        events = [event for frame in client.parsed for event in frame.get("events", [])]
        assert {(event["type"], event.get("side")) for event in events} == kinds
        assert client.ids == (list(range(1, 41)) if ("trade", None) in kinds else [])


def test_gemini_v1_has_no_heartbeat_unless_asked() -> None:
    with MockExchange(count=1, rate=0, noise=0, heartbeat=0.02) as exchange:
        url = f"ws://127.0.0.1:{exchange.port}/v1/marketdata/btcusd?bids=false&offers=false&trades=true"
        with Client(url) as client:
            client.read_until(lambda c: c.ids == [1])
            assert client.quiet_for(0.3)


def test_gemini_v2_waits_to_be_asked_and_its_history_is_no_news() -> None:
    with MockExchange(count=100, rate=0, heartbeat=0.05) as exchange:
        with Client(exchange.url("gemini_v2"), subscribe=False) as client:
            assert client.quiet_for(0.3)
            client.ws.settimeout(10)
            client.ws.send("not even JSON")
            client.ws.send('{"type":"subscribe","subscriptions":[{"name":"l2","symbols":["ETHUSD"]}]}')
            client.read_until(lambda c: len(c.ids) == 100)
            client.read_until(lambda c: '{"type":"heartbeat"' in c.frames[-1])
            first = client.parsed[0]
            assert (first["type"], first["symbol"], len(first["trades"])) == ("l2_updates", "ETHUSD", 50)
            assert all(trade["event_id"] < 1 for trade in first["trades"])
            assert exchange.stats()["sent"] == 100
            assert exchange.stats()["history"] == 1
        with Client(exchange.url("gemini_v2")) as again:
            again.read_until(lambda c: len(c.frames) == 1)
            assert [trade["event_id"] for trade in again.parsed[0]["trades"]] == list(range(100, 50, -1))
        assert exchange.stats()["sent"] == 100


def test_no_compression_is_agreed_and_pings_are_answered() -> None:
    with MockExchange(hold=True, ping=0.05) as exchange, Client(exchange.url(), timeout=5) as client:
        assert "sec-websocket-extensions" not in client.ws.headers
        client.ws.ping("are you there")
        heard = [client.ws.recv_data_frame(control_frame=True)[1] for _ in range(4)]
        assert "are you there" in {frame.data.decode() for frame in heard}
        assert 9 in {frame.opcode for frame in heard}  # the exchange pings by itself


def test_joined_and_combined_streams_share_the_trades_by_turns() -> None:
    with MockExchange(count=20, rate=0, noise=0) as exchange:
        url = f"ws://127.0.0.1:{exchange.port}/stream?streams=btcusdt@trade/ethusdt@aggTrade/btcusdt@bookTicker"
        with Client(url) as client:
            client.read_until(lambda c: len(c.ids) == 20)
        assert client.ids == list(range(1, 21))
        assert [frame["stream"] for frame in client.parsed[:2]] == ["btcusdt@trade", "ethusdt@aggTrade"]
        assert {frame["data"]["s"] for frame in client.parsed} == {"BTCUSDT", "ETHUSDT"}
        assert exchange.stats()["sent_by_symbol"] == {"BTCUSDT": 10, "ETHUSDT": 10}


def test_unknown_paths_are_not_found_and_counted() -> None:
    with MockExchange() as exchange:
        for path in ("/", "/ws/", "/ws/btcusdt", "/v1/marketdata/", "/v3/marketdata", "/stream"):
            with pytest.raises(Exception, match="404"):
                Client(f"ws://127.0.0.1:{exchange.port}{path}")
        stats = exchange.stats()
        assert (stats["rejected_by_status"], stats["requests"], stats["accepted"]) == ({"404": 6}, 6, 0)


def test_the_pace_is_kept() -> None:
    """Two hundred trades at 200 a second take a second: not less, and on a busy machine not much more."""
    with MockExchange(count=200, rate=200, noise=0) as exchange:
        with Client(exchange.url()) as client:
            client.read_until(lambda c: len(c.ids) == 200)
        (connection,) = exchange.stats()["connections"]
    took = connection["last_sent_ms"] - connection["first_sent_ms"]
    assert 880 <= took <= 2500


def test_a_frame_is_json_of_the_documented_shape() -> None:
    with MockExchange(count=1, rate=0, noise=0) as exchange, Client(exchange.url()) as client:
        client.read_until(lambda c: len(c.ids) == 1)
        frame = json.loads(client.frames[0])
    assert list(frame) == ["e", "E", "s", "t", "p", "q", "T", "m", "M"]
    assert isinstance(frame["p"], str)
    assert isinstance(frame["T"], int)


def test_a_capture_is_played_in_laps_with_ids_and_times_that_rise() -> None:
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


def test_recorded_symbols_can_be_kept() -> None:
    captures = [str(FRAMES / "gemini_v2.jsonl")]
    with MockExchange(captures=captures, count=24, rate=0, keep_symbols=True) as exchange:
        with Client(exchange.url("gemini_v2"), subscribe=False) as client:
            client.ws.send('{"type":"subscribe","subscriptions":[{"name":"l2","symbols":["FILUSD","ALCXUSD"]}]}')
            client.read_until(lambda c: len(c.ids) == 24)
        by_symbol = exchange.wait(complete=1)["sent_by_symbol"]
    assert set(by_symbol) == {"FILUSD", "ALCXUSD"}
    assert by_symbol["FILUSD"] > by_symbol["ALCXUSD"]


def test_recorded_speed_times_a_factor() -> None:
    """The excerpt's sixteen trades span 23.3 s as recorded: forty times faster they take 0.58 s."""
    with MockExchange(captures=[str(FRAMES / "gemini_v2.jsonl")], count=16, speed=40) as exchange:
        with Client(exchange.url("binance")) as client:
            client.read_until(lambda c: len(c.ids) == 16)
        (connection,) = exchange.stats()["connections"]
    assert 470 <= connection["last_sent_ms"] - connection["first_sent_ms"] <= 2500


def test_the_frames_are_the_same_for_the_same_seed() -> None:
    def play() -> list[str]:
        settings = {"seed": 5, "count": 50, "rate": 0, "clock": "recorded", "noise": 0}
        with MockExchange(**settings) as exchange, Client(exchange.url("binance_agg")) as client:
            return client.read_until(lambda c: len(c.ids) == 50).frames

    assert play() == play()


@pytest.mark.parametrize(
    ("kind", "bad", "refused", "first", "history"),
    [
        (
            "coinbase",
            {"type": "subscribe", "product_ids": ["BTCUSD"], "channels": ["matches"]},
            {"type": "error", "message": "Failed to subscribe", "reason": "BTCUSD is not a valid product"},
            lambda frame: frame["type"] == "subscriptions",
            lambda frame: frame["type"] == "last_match" and frame["trade_id"] == 0,
        ),
        (
            "kraken",
            {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTCUSD"]}},
            {
                "error": "Currency pair not supported BTCUSD",
                "method": "subscribe",
                "success": False,
                "symbol": "BTCUSD",
            },
            lambda frame: frame["channel"] == "status",
            lambda frame: frame.get("type") == "snapshot" and [t["trade_id"] for t in frame["data"]][-1] == 0,
        ),
        (
            "gemini",
            {"id": "1", "method": "subscribe", "params": ["btcusd"]},
            {"id": "1", "status": 400, "error": {"code": -1102, "msg": "Parameter 'params' was malformed."}},
            lambda frame: frame == {"id": "1", "status": 200},
            None,
        ),
    ],
)
def test_who_has_to_ask_is_answered_and_what_was_before_is_no_news(
    kind: str, bad: object, refused: object, first: Callable[[Any], bool], history: Callable[[Any], bool] | None
) -> None:
    with MockExchange(count=20, rate=0, noise=0) as exchange:
        url = exchange.url(kind)
        with Client(url, subscribe=False) as client:
            client.ws.send("not even JSON")
            client.ws.send("[]")
            client.ws.send(json.dumps(bad))
            client.read_until(lambda c: refused in c.parsed)
            assert exchange.stats()["sent"] == 0
            heard = len(client.frames)
            client.ws.send(json.dumps(SUBSCRIBE[urlsplit(url).path]))
            client.read_until(lambda c: len(c.ids) == 20)
        news = client.parsed[heard:]
        assert first(news[0]) or kind == "kraken"
        assert client.ids == list(range(1, 21))
        assert history is None or any(history(frame) for frame in news)


def test_coinbase_sends_away_who_does_not_say_what_it_wants() -> None:
    with MockExchange(count=1) as exchange, Client(exchange.url("coinbase"), subscribe=False) as client:
        client.read_until(lambda c: False)
        assert (client.frames, client.close_code) == ([], 1008)


def test_coinbase_beats_for_each_product_and_names_the_newest_trade() -> None:
    wanted = {"type": "subscribe", "product_ids": ["BTC-USD", "ETH-USD"], "channels": ["matches", "heartbeat"]}
    beats: dict[str, int] = {}

    def beaten(c: Client) -> bool:
        news = [frame for frame in c.parsed if frame.get("type") == "heartbeat"]
        beats.update((frame["product_id"], frame["last_trade_id"]) for frame in news)
        return beats == {"BTC-USD": 3, "ETH-USD": 2}

    with MockExchange(count=3, rate=0, heartbeat=0.05) as exchange:
        with Client(exchange.url("coinbase"), subscribe=False) as client:
            client.ws.send(json.dumps(wanted))
            client.read_until(beaten)
        assert exchange.stats()["sent_by_symbol"] == {"BTCUSD": 2, "ETHUSD": 1}
