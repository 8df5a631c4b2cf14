"""Gemini's current streams (wss://ws.gemini.com): trades are {E, s, t, p, q, m}, recognizable by having no `e`.

No marks: nothing says that `t` counts the trades of one symbol, and the ids of Gemini's older endpoints do not.
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
    refusal_text,
)

_REQUEST_ID = "trades"  # of the subscription, the only request that is sent


class Gemini(Exchange):
    kind = "gemini"
    must_subscribe = True

    def recognizes(self, frame: Frame) -> bool:
        return "type" not in frame

    def decode(self, frame: Frame) -> Decoded:
        if "e" in frame:
            return NOTHING
        if frame.get("id") == _REQUEST_ID and frame.get("status") != 200:
            return Decoded([], [], refusal=refusal_text(frame.get("status"), frame.get("error")))
        if "t" not in frame and "p" not in frame:
            return NOTHING
        try:
            symbol, price, size = read_symbol(frame, "s"), read_amount(frame, "p"), read_amount(frame, "q")
            return Decoded([MarketTrade(symbol, price, size, read_id(frame, "t"), read_unix_ms(frame, "E"))], [])
        except UndecodableError as error:
            return Decoded([], [str(error)])

    def subscribe_messages(self, symbols: Sequence[str]) -> list[str]:
        streams = [f"{normalize_symbol(symbol).lower()}@trade" for symbol in symbols]
        return [json.dumps({"id": _REQUEST_ID, "method": "subscribe", "params": streams})]

    def serves(self, host: str, path: str) -> bool:
        return host == "ws.gemini.com" or path == "/gemini"  # the path is that of the mock exchange
