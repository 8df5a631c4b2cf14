"""Gemini v2 market data: `trade` messages. The `trades` inside `l2_updates` are history.

No marks: `event_id` counts the events of all symbols, so it has gaps where nothing is missed.
"""

import json
from collections.abc import Sequence

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges.base import (
    NOTHING,
    Decoded,
    Exchange,
    Frame,
    UndecodableError,
    normalize_symbol,
    read_amount,
    read_id,
    read_symbol,
    read_unix_ms,
)


class GeminiV2(Exchange):
    kind = "gemini_v2"
    must_subscribe = True

    def recognizes(self, frame: Frame) -> bool:
        return frame.get("type") == "trade"

    def decode(self, frame: Frame) -> Decoded:
        if frame.get("type") != "trade":
            return NOTHING
        try:
            symbol, price, size = (
                read_symbol(frame, "symbol"),
                read_amount(frame, "price"),
                read_amount(frame, "quantity"),
            )
            return Decoded(
                [MarketTrade(symbol, price, size, read_id(frame, "event_id"), read_unix_ms(frame, "timestamp"))], []
            )
        except UndecodableError as error:
            return Decoded([], [str(error)])

    def subscribe_messages(self, symbols: Sequence[str]) -> list[str]:
        subscription = {"name": "l2", "symbols": [normalize_symbol(symbol) for symbol in symbols]}
        return [json.dumps({"type": "subscribe", "subscriptions": [subscription]})]

    def serves(self, host: str, path: str) -> bool:
        return path.startswith("/v2/marketdata")
