"""Coinbase Exchange: `match` messages. A `last_match`, sent on subscribing, is history.

`trade_id` counts the trades of a product. `sequence` counts every event of a product's order book; a subscriber to
matches alone sees gaps between any two frames, so it says nothing about missed trades. A heartbeat arrives each second
with `last_trade_id`, which has been 0 for clients that are not logged in; such a heartbeat is ignored. Heartbeats are a
channel of their own and may overtake the trades they name, which are then late and not missed.
"""

import json
from collections.abc import Sequence

from hybrid_engine.exchanges.base import Decoded, Exchange, Frame, TradeFormat, history_mark, refusal_text, split_pair

_MATCH = TradeFormat("product_id", "price", "size", "trade_id", "time", rfc3339=True, counted=True)


class Coinbase(Exchange):
    kind = "coinbase"
    must_subscribe = True
    hosts, paths = ("ws-feed.exchange.coinbase.com",), "/coinbase$"

    def recognizes(self, frame: Frame) -> bool:
        return "type" in frame

    def decode(self, frame: Frame) -> Decoded:
        match frame.get("type"):
            case "match":
                return _MATCH.decode([frame])
            case "last_match":
                return Decoded(marks=history_mark(frame, "product_id", "trade_id"))
            case "heartbeat":
                return Decoded(marks=history_mark(frame, "product_id", "last_trade_id"))
            case "error":
                return Decoded(refusal=refusal_text(frame.get("message"), frame.get("reason")))
        return Decoded()

    def subscribe_messages(self, symbols: Sequence[str]) -> list[str]:
        products = [split_pair(symbol, "-") for symbol in symbols]
        return [json.dumps({"type": "subscribe", "product_ids": products, "channels": ["matches", "heartbeat"]})]
