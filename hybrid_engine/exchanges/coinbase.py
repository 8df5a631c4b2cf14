"""Coinbase Exchange: `match` messages. A `last_match`, sent on subscribing, is history.

`trade_id` counts the trades of a product. `sequence` counts everything that happens to a product's book; who is not
sent all of it, as with matches alone, sees holes between any two frames, so it says nothing about missed trades.
Heartbeats come each second with `last_trade_id`, which has been 0 for whoever is not logged in; then it tells nothing.
They are another channel and may overtake the trades they tell of, which are then late and not missed.
"""

import json
from collections.abc import Sequence

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


class Coinbase(Exchange):
    kind = "coinbase"
    must_subscribe = True

    def decode(self, frame: Frame) -> Decoded:
        kind = frame.get("type")
        if kind == "match":
            return _match(frame)
        if kind == "last_match":
            return Decoded([], [], known(frame, "product_id", "trade_id"))
        if kind == "heartbeat":
            return Decoded([], [], known(frame, "product_id", "last_trade_id"))
        if kind == "error":
            return Decoded([], [], refused=refusal(frame.get("message"), frame.get("reason")))
        return NOTHING

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        products = [pair(symbol, "-") for symbol in symbols]
        return [json.dumps({"type": "subscribe", "product_ids": products, "channels": ["matches", "heartbeat"]})]

    def serves(self, host: str, path: str) -> bool:
        return host == "ws-feed.exchange.coinbase.com" or path == "/coinbase"  # the path is that of the mock exchange


def _match(frame: Frame) -> Decoded:
    marks: tuple[Mark, ...] = ()
    try:
        symbol, number = symbol_of(frame, "product_id"), id_of(frame, "trade_id")
        marks = counted(symbol, number)
        price, size, time_ms = amount(frame, "price"), amount(frame, "size"), rfc3339_ms(frame, "time")
        return Decoded([MarketTrade(symbol, price, size, number, time_ms)], [], marks)
    except Undecodable as error:
        return Decoded([], [str(error)], marks)
