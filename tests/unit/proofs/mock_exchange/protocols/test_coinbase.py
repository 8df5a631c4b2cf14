"""The Coinbase protocol: the deadline for subscribing, heartbeats of each product."""

from __future__ import annotations

import json

from proofs.mock_exchange import MockExchange
from tests.support.exchange_client import Client


def test_client_without_subscription_is_closed() -> None:
    with MockExchange(count=1) as exchange, Client(exchange.url("coinbase"), subscribe=False) as client:
        client.read_until(lambda c: False)
        assert (client.frames, client.close_code) == ([], 1008)


def test_heartbeat_per_product_has_its_last_trade() -> None:
    request = {"type": "subscribe", "product_ids": ["BTC-USD", "ETH-USD"], "channels": ["matches", "heartbeat"]}
    beats: dict[str, int] = {}

    def beaten(c: Client) -> bool:
        news = [frame for frame in c.parsed if frame.get("type") == "heartbeat"]
        beats.update((frame["product_id"], frame["last_trade_id"]) for frame in news)
        return beats == {"BTC-USD": 3, "ETH-USD": 2}

    with MockExchange(count=3, rate=0, heartbeat=0.05) as exchange:
        with Client(exchange.url("coinbase"), subscribe=False) as client:
            client.ws.send(json.dumps(request))
            client.read_until(beaten)
        assert exchange.stats()["sent_by_symbol"] == {"BTCUSD": 2, "ETHUSD": 1}
