"""Gemini v2 market data: `trade` messages. The `trades` inside `l2_updates` are history, not news.

No marks: `event_id` counts what happens at all of Gemini, so it has holes where nothing is missed.
"""

import json
from collections.abc import Sequence

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges.base import (
    NOTHING,
    Decoded,
    Exchange,
    Frame,
    Undecodable,
    amount,
    id_of,
    plain,
    symbol_of,
    unix_ms,
)


class GeminiV2(Exchange):
    kind = "gemini_v2"
    must_subscribe = True

    def decode(self, frame: Frame) -> Decoded:
        if frame.get("type") != "trade":
            return NOTHING
        try:
            symbol, price, size = symbol_of(frame, "symbol"), amount(frame, "price"), amount(frame, "quantity")
            return Decoded(
                [MarketTrade(symbol, price, size, id_of(frame, "event_id"), unix_ms(frame, "timestamp"))], []
            )
        except Undecodable as error:
            return Decoded([], [str(error)])

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        wanted = {"name": "l2", "symbols": [plain(symbol) for symbol in symbols]}
        return [json.dumps({"type": "subscribe", "subscriptions": [wanted]})]

    def serves(self, host: str, path: str) -> bool:
        return path.startswith("/v2/marketdata")
