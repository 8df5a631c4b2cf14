"""Gemini's current streams (wss://ws.gemini.com): trades {E, s, t, p, q, m}, which are told by having no `e`.

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
    Undecodable,
    amount,
    id_of,
    plain,
    refusal,
    symbol_of,
    unix_ms,
)

_ASKED = "trades"  # the id of the one request there is


class Gemini(Exchange):
    kind = "gemini"
    must_subscribe = True

    def decode(self, frame: Frame) -> Decoded:
        if "e" in frame:
            return NOTHING
        if frame.get("id") == _ASKED and frame.get("status") != 200:
            return Decoded([], [], refused=refusal(frame.get("status"), frame.get("error")))
        if "t" not in frame and "p" not in frame:
            return NOTHING
        try:
            symbol, price, size = symbol_of(frame, "s"), amount(frame, "p"), amount(frame, "q")
            return Decoded([MarketTrade(symbol, price, size, id_of(frame, "t"), unix_ms(frame, "E"))], [])
        except Undecodable as error:
            return Decoded([], [str(error)])

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        streams = [f"{plain(symbol).lower()}@trade" for symbol in symbols]
        return [json.dumps({"id": _ASKED, "method": "subscribe", "params": streams})]

    def serves(self, host: str, path: str) -> bool:
        return host == "ws.gemini.com" or path == "/gemini"  # the path is that of the mock exchange
