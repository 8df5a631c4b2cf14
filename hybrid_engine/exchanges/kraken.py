"""Kraken v2: `trade` updates, each with several trades whose prices are JSON numbers. A `snapshot` is history.

`trade_id` counts the trades of a symbol.
"""

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from hybrid_engine.exchanges.base import (
    RENAMED,
    UNKNOWN,
    Decoded,
    Exchange,
    Frame,
    TradeFormat,
    history_mark,
    split_pair,
)

_TRADE = TradeFormat("symbol", "price", "qty", "trade_id", "timestamp", rfc3339=True, counted=True)


class Kraken(Exchange):
    kind = "kraken"
    must_subscribe = True
    paths = "/v2/*$"
    domains = ("kraken.com",)

    def recognizes(self, frame: Frame) -> bool:
        return not frame.keys().isdisjoint(("channel", "success", "method"))

    def decode(self, frame: Frame) -> Decoded:
        match frame:
            case {"channel": "trade", "type": "update"}:
                return _TRADE.decode(frame.get("data"), "data")
            case {"channel": "trade", "type": "snapshot"}:
                return _decode_snapshot(frame.get("data"))
            case {"method": "subscribe", "success": True, "result": {"symbol": str(symbol)}}:
                return Decoded(acknowledged=(symbol,))
            case {"channel": str()} | {"method": "subscribe" | "pong"}:
                return Decoded()
        return UNKNOWN

    def check_url(self, url: str) -> None:
        if not re.search(r"/v2/*$", urlsplit(url).path):
            raise ValueError('is not of version 2 of its protocol; write "wss://ws.kraken.com/v2"')

    def check_symbols(self, url: str, symbols: Sequence[str]) -> None:
        super().check_symbols(url, symbols)
        for symbol in symbols:
            renamed = "/".join(RENAMED.get(part, part) for part in split_pair(symbol, "/").split("/"))
            if renamed != split_pair(symbol, "/"):
                raise ValueError(f'{json.dumps(symbol)}: version 2 has other names; write "{renamed}"')

    def subscribe_messages(self, symbols: Sequence[str]) -> list[str]:
        params = {"channel": "trade", "symbol": [split_pair(symbol, "/") for symbol in symbols], "snapshot": True}
        return [json.dumps({"method": "subscribe", "params": params})]


def _decode_snapshot(items: Any) -> Decoded:
    """The trades of a snapshot, and its marks: for each symbol, that trades up to the newest one exist."""
    trades = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    marks = sorted(mark for trade in trades for mark in history_mark(trade, "symbol", "trade_id"))
    return Decoded(marks=list({mark.symbol: mark for mark in marks}.values()), history=_TRADE.decode_history(trades))
