"""Kraken v2: `trade` updates, several trades in each, with numbers for prices. The `snapshot` before them is history.

`trade_id` counts the trades of a book.
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
    Undecodable,
    amount,
    counted,
    id_of,
    known,
    pair,
    refusal,
    rfc3339_ms,
    symbol_of,
)


class Kraken(Exchange):
    kind = "kraken"
    must_subscribe = True

    def decode(self, frame: Frame) -> Decoded:
        if frame.get("channel") != "trade":
            if frame.get("method") == "subscribe" and frame.get("success") is False:
                return Decoded([], [], refused=refusal(frame.get("symbol"), frame.get("error")))
            return NOTHING
        trades = frame.get("data")
        if frame.get("type") == "snapshot":
            return _history(trades)
        if frame.get("type") != "update":
            return NOTHING
        if not isinstance(trades, list):
            return Decoded([], ["data: not a list"])
        prints: list[MarketTrade] = []
        rejections: list[str] = []
        marks: list[Mark] = []
        for trade in trades:
            if not isinstance(trade, dict):
                rejections.append("data: not objects")
                continue
            try:
                symbol, number = symbol_of(trade, "symbol"), id_of(trade, "trade_id")
                marks += counted(symbol, number)
                price, size, time_ms = amount(trade, "price"), amount(trade, "qty"), rfc3339_ms(trade, "timestamp")
                prints.append(MarketTrade(symbol, price, size, number, time_ms))
            except Undecodable as error:
                rejections.append(str(error))
        # Nothing promises an order inside a message, and a hole that the same message fills is none.
        return Decoded(prints, rejections, sorted(marks))

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        wanted = {"channel": "trade", "symbol": [pair(symbol, "/") for symbol in symbols], "snapshot": True}
        return [json.dumps({"method": "subscribe", "params": wanted})]

    def serves(self, host: str, path: str) -> bool:
        return path.rstrip("/") == "/v2"


def _history(trades: Any) -> Decoded:
    """What a snapshot tells: that there are trades up to its newest, symbol by symbol."""
    newest: dict[str, Mark] = {}
    for trade in trades if isinstance(trades, list) else []:
        for mark in known(trade, "symbol", "trade_id") if isinstance(trade, dict) else ():
            newest[mark.symbol] = max(mark, newest.get(mark.symbol, mark))
    return Decoded([], [], list(newest.values()))
