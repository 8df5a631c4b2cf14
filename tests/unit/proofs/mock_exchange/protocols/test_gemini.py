"""Gemini v1 and v2: message numbers, the query of v1, the subscriptions of v2."""

from __future__ import annotations

import pytest

from proofs.mock_exchange import MockExchange
from proofs.mock_exchange.protocols.registry import open_protocol
from tests.support.exchange_client import Client, trades_in

SUBSCRIBE_V2 = '{"type":"subscribe","subscriptions":[{"name":"l2","symbols":["BTCUSD","ETHUSD"]}]}'


def test_v1_numbers_every_message() -> None:
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
def test_v1_query_selects_events(query: str, kinds: set[tuple[str, str | None]]) -> None:
    with MockExchange(count=40, rate=0, heartbeat=0.05) as exchange:
        url = f"ws://127.0.0.1:{exchange.port}/v1/marketdata/btcusd?{query}&heartbeat=true"
        with Client(url) as client:
            client.read_until(lambda c: sum('"heartbeat"' in text for text in c.frames) == 3)
        events = [event for frame in client.parsed for event in frame.get("events", [])]
        assert {(event["type"], event.get("side")) for event in events} == kinds
        assert client.ids == (list(range(1, 41)) if ("trade", None) in kinds else [])


def test_v1_heartbeat_is_optional() -> None:
    with MockExchange(count=1, rate=0, noise=0, heartbeat=0.02) as exchange:
        url = f"ws://127.0.0.1:{exchange.port}/v1/marketdata/btcusd?bids=false&offers=false&trades=true"
        with Client(url) as client:
            client.read_until(lambda c: c.ids == [1])
            assert client.quiet_for(0.3)


def test_v2_sends_history_then_trades_after_subscribing() -> None:
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


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "null", '{"type":"subscribe"}', '{"type":"subscribe","subscriptions":[3]}', "\udcff"]
)
def test_v2_ignores_other_messages(text: str) -> None:
    protocol = open_protocol("/v2/marketdata")
    assert protocol.receive(text) is False
    assert not protocol.wants_trades


def test_v2_subscribes_and_unsubscribes() -> None:
    protocol = open_protocol("/v2/marketdata")
    assert protocol.receive(SUBSCRIBE_V2)
    assert not protocol.receive(SUBSCRIBE_V2)
    assert protocol.symbols == ["BTCUSD", "ETHUSD"]
    protocol.receive(SUBSCRIBE_V2.replace("subscribe", "unsubscribe", 1).replace(',"ETHUSD"', ""))
    assert protocol.symbols == ["ETHUSD"]
