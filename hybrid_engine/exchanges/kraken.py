"""Kraken v2: `trade` updates, each with several trades whose prices are JSON numbers. A `snapshot` is history.

`trade_id` counts the trades of a symbol.
"""

import json
from collections.abc import Sequence
from typing import Any

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges.base import (
    NOTHING,
    Decoded,
    Exchange,
    Frame,
    Mark,
    UndecodableError,
    history_mark,
    read_amount,
    read_id,
    read_rfc3339_ms,
    read_symbol,
    refusal_text,
    split_pair,
    trade_mark,
)


class Kraken(Exchange):
    kind = "kraken"
    must_subscribe = True

    def recognizes(self, frame: Frame) -> bool:
        return "channel" in frame or "success" in frame

    def decode(self, frame: Frame) -> Decoded:
        if frame.get("channel") != "trade":
            if frame.get("method") == "subscribe" and frame.get("success") is False:
                return Decoded([], [], refusal=refusal_text(frame.get("symbol"), frame.get("error")))
            return NOTHING
        items = frame.get("data")
        if frame.get("type") == "snapshot":
            return _decode_snapshot(items)
        if frame.get("type") != "update":
            return NOTHING
        if not isinstance(items, list):
            return Decoded([], ["data: not a list"])
        trades: list[MarketTrade] = []
        rejections: list[str] = []
        marks: list[Mark] = []
        for item in items:
            if not isinstance(item, dict):
                rejections.append("data: not objects")
                continue
            try:
                symbol, number = read_symbol(item, "symbol"), read_id(item, "trade_id")
                marks += trade_mark(symbol, number)
                price, size, time_ms = (
                    read_amount(item, "price"),
                    read_amount(item, "qty"),
                    read_rfc3339_ms(item, "timestamp"),
                )
                trades.append(MarketTrade(symbol, price, size, number, time_ms))
            except UndecodableError as error:
                rejections.append(str(error))
        # Kraken does not promise that the trades of a message are in order: sorted, they fill each other's gaps.
        return Decoded(trades, rejections, sorted(marks))

    def subscribe_messages(self, symbols: Sequence[str]) -> list[str]:
        params = {"channel": "trade", "symbol": [split_pair(symbol, "/") for symbol in symbols], "snapshot": True}
        return [json.dumps({"method": "subscribe", "params": params})]

    def serves(self, host: str, path: str) -> bool:
        return path.rstrip("/") == "/v2"


def _decode_snapshot(items: Any) -> Decoded:
    """The marks of a snapshot: for each symbol, that trades up to the newest one exist."""
    newest: dict[str, Mark] = {}
    for item in items if isinstance(items, list) else []:
        for mark in history_mark(item, "symbol", "trade_id") if isinstance(item, dict) else ():
            newest[mark.symbol] = max(mark, newest.get(mark.symbol, mark))
    return Decoded([], [], list(newest.values()))
