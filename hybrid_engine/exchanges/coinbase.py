"""Coinbase Exchange: `match` messages. A `last_match`, sent on subscribing, is history.

`trade_id` counts the trades of a product. `sequence` counts every event of a product's order book; a subscriber to
matches alone sees gaps between any two frames, so it says nothing about missed trades. A heartbeat arrives each second
with `last_trade_id`, which has been 0 for clients that are not logged in; such a heartbeat is ignored. Heartbeats are a
channel of their own and may overtake the trades they name, which are then late and not missed.
"""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from hybrid_engine.exchanges.base import UNKNOWN, Decoded, Exchange, Frame, TradeFormat, history_mark, split_pair

_MATCH = TradeFormat("product_id", "price", "size", "trade_id", "time", rfc3339=True, counted=True)


class Coinbase(Exchange):
    kind = "coinbase"
    must_subscribe = answers_at_once = True
    hosts, paths = ("ws-feed.exchange.coinbase.com",), "/coinbase$"
    domains = ("coinbase.com",)

    def recognizes(self, frame: Frame) -> bool:
        return "type" in frame

    def decode(self, frame: Frame) -> Decoded:
        match frame.get("type"):
            case "match":
                return _MATCH.decode([frame])
            case "last_match":
                marks = history_mark(frame, "product_id", "trade_id")
                return Decoded(marks=marks, history=_MATCH.decode_history([frame]))
            case "heartbeat":
                return Decoded(marks=history_mark(frame, "product_id", "last_trade_id"))
            case "subscriptions":
                return Decoded(acknowledged=_acknowledged(frame.get("channels")))
            case str():
                return Decoded()
        return UNKNOWN

    def check_url(self, url: str) -> None:
        if (urlsplit(url).hostname or "").startswith("advanced-trade-ws"):
            raise ValueError('is of Advanced Trade, another protocol; write "wss://ws-feed.exchange.coinbase.com"')

    def subscribe_messages(self, symbols: Sequence[str]) -> list[str]:
        products = [split_pair(symbol, "-") for symbol in symbols]
        return [json.dumps({"type": "subscribe", "product_ids": products, "channels": ["matches", "heartbeat"]})]


def _acknowledged(channels: Any) -> tuple[str, ...]:
    """The products of the channel of trades, of all those that a client is subscribed to."""
    listed = channels if isinstance(channels, list) else []
    named = [one.get("product_ids") for one in listed if isinstance(one, dict) and one.get("name") == "matches"]
    return tuple(one for products in named if isinstance(products, list) for one in products if isinstance(one, str))
