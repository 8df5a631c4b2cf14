"""Binance spot: `trade` and `aggTrade`, raw or in a combined stream. The URL names what is sent.

The ids of trades count up by one per symbol. An aggTrade tells those of the trades in it, `f` to `l`. On futures, whose
frames lack `M`, trades against the insurance fund are left out of them, so there only its own id `a` has no holes.
"""

import json
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

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
    number_of,
    plain,
    symbol_of,
    unix_ms,
)
from hybrid_engine.exchanges.binance_run import decode_run


class Binance(Exchange):
    kind = "binance"
    lifetime_s = 24 * 3600.0

    def decode(self, frame: Frame) -> Decoded:
        if "stream" in frame and "data" in frame:
            data, stream = frame["data"], frame["stream"]
            if not isinstance(data, dict):
                claims = isinstance(stream, str) and stream.endswith(("@trade", "@aggTrade"))
                return Decoded([], ["data: not an object"]) if claims else NOTHING
            frame = data
        kind = frame.get("e")
        if kind == "trade":
            return _one(frame, "t")
        if kind == "aggTrade":
            return _one(frame, "a")
        if kind == "serverShutdown":
            return Decoded([], [], moving="the exchange announced that it shuts this server down")
        return NOTHING

    def decode_run(self, messages: Sequence[bytes]) -> Sequence[Decoded] | None:
        return decode_run(messages)

    def check(self, url: str, symbols: Sequence[str]) -> None:
        streamed = self.named(url)
        strange = [symbol for symbol in symbols if plain(symbol) not in streamed]
        # One symbol for one stream may be named as the operator likes: BTC/USD for btcusdt.
        if strange and streamed and not len(symbols) == len(streamed) == 1:
            names = ", ".join(streamed)
            raise ValueError(
                f"{json.dumps(strange[0])} is not among the streams of the url ({names}); name it as "
                "the url does, or give each stream a [[source]] of its own"
            )

    def named(self, url: str) -> list[str]:
        parts = urlsplit(url)
        streams = "/".join(parse_qs(parts.query).get("streams", [])) or parts.path.rpartition("/ws/")[2]
        return list(dict.fromkeys(plain(stream.partition("@")[0]) for stream in streams.split("/") if "@" in stream))

    def serves(self, host: str, path: str) -> bool:
        return path.startswith(("/ws/", "/stream"))


def _one(frame: Frame, id_key: str) -> Decoded:
    marks: tuple[Mark, ...] = ()
    try:
        symbol, number = symbol_of(frame, "s"), id_of(frame, id_key)
        marks = _trades_in(frame, symbol) if id_key == "a" and "M" in frame else counted(symbol, number)
        time_ms = unix_ms(frame, "T" if "T" in frame else "E")
        # A named tuple's own constructor takes twice as long, and the trades of a flood are all made here.
        prints = [tuple.__new__(MarketTrade, (symbol, amount(frame, "p"), amount(frame, "q"), number, time_ms))]
        return tuple.__new__(Decoded, (prints, (), marks, "", ""))
    except Undecodable as error:
        return Decoded([], [str(error)], marks)


def _trades_in(frame: Frame, symbol: str) -> tuple[Mark, ...]:
    first, last = number_of(frame, "f"), number_of(frame, "l")
    if not symbol or first is None or last is None or last < first:
        return ()
    return (tuple.__new__(Mark, (symbol, first, last, True)),)
