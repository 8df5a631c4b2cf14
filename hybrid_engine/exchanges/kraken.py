"""Kraken v2: `trade` updates, each with several trades whose prices are JSON numbers. A `snapshot` is history.

`trade_id` counts the trades of a symbol.
"""

import json
from collections.abc import Sequence
from typing import Any

from hybrid_engine.exchanges.base import (
    NOTHING,
    Decoded,
    Exchange,
    Frame,
    Mark,
    TradeFormat,
    history_mark,
    read_rfc3339_ms,
    refusal_text,
    split_pair,
)

_TRADE = TradeFormat("symbol", "price", "qty", "trade_id", "timestamp", read_rfc3339_ms, counted=True)


class Kraken(Exchange):
    kind = "kraken"
    must_subscribe = True
    paths = "/v2/*$"

    def recognizes(self, frame: Frame) -> bool:
        return "channel" in frame or "success" in frame

    def decode(self, frame: Frame) -> Decoded:
        match frame:
            case {"channel": "trade", "type": "update"}:
                return _TRADE.decode(frame.get("data"), "data")
            case {"channel": "trade", "type": "snapshot"}:
                return _decode_snapshot(frame.get("data"))
            case {"method": "subscribe", "success": False}:
                return Decoded([], [], refusal=refusal_text(frame.get("symbol"), frame.get("error")))
        return NOTHING

    def subscribe_messages(self, symbols: Sequence[str]) -> list[str]:
        params = {"channel": "trade", "symbol": [split_pair(symbol, "/") for symbol in symbols], "snapshot": True}
        return [json.dumps({"method": "subscribe", "params": params})]


def _decode_snapshot(items: Any) -> Decoded:
    """The marks of a snapshot: for each symbol, that trades up to the newest one exist."""
    newest: dict[str, Mark] = {}
    for item in items if isinstance(items, list) else []:
        for mark in history_mark(item, "symbol", "trade_id") if isinstance(item, dict) else ():
            newest[mark.symbol] = max(mark, newest.get(mark.symbol, mark))
    return Decoded([], [], list(newest.values()))
