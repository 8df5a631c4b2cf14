"""Protocols with subscribe messages: replies, refusals, history before trades."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from proofs.mock_exchange import MockExchange
from tests.support.exchange_client import SUBSCRIBE, Client


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
def test_subscription_is_answered_before_trades(
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
            before = len(client.frames)
            client.ws.send(json.dumps(SUBSCRIBE[urlsplit(url).path]))
            client.read_until(lambda c: len(c.ids) == 20)
        news = client.parsed[before:]
        assert first(news[0]) or kind == "kraken"
        assert client.ids == list(range(1, 21))
        assert history is None or any(history(frame) for frame in news)
