"""Binance spot: `trade` and `aggTrade` frames, raw or in a combined stream. The URL names the streams.

Trade ids count up by one for each symbol. An aggTrade names the ids of its trades, `f` to `l`. On futures, whose frames
lack `M`, trades against the insurance fund are left out of them, so there only its own id `a` is without gaps.
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
    UndecodableError,
    normalize_symbol,
    read_amount,
    read_id,
    read_number,
    read_symbol,
    read_unix_ms,
    trade_mark,
)
from hybrid_engine.exchanges.binance_run import decode_run


class Binance(Exchange):
    kind = "binance"
    lifetime_s = 24 * 3600.0

    def recognizes(self, frame: Frame) -> bool:
        return "e" in frame or "stream" in frame

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
            return Decoded([], [], close_notice="the exchange announced that it shuts this server down")
        return NOTHING

    def decode_run(self, messages: Sequence[bytes]) -> Sequence[Decoded] | None:
        return decode_run(messages)

    def check_symbols(self, url: str, symbols: Sequence[str]) -> None:
        streams = self.symbols_in_url(url)
        other = [symbol for symbol in symbols if normalize_symbol(symbol) not in streams]
        # One symbol for one stream may have any name: BTC/USD for btcusdt.
        if other and streams and not len(symbols) == len(streams) == 1:
            names = ", ".join(streams)
            raise ValueError(
                f"{json.dumps(other[0])} is not among the streams of the url ({names}); name it as "
                "the url does, or give each stream a [[source]] of its own"
            )

    def symbols_in_url(self, url: str) -> list[str]:
        parts = urlsplit(url)
        streams = "/".join(parse_qs(parts.query).get("streams", [])) or parts.path.rpartition("/ws/")[2]
        return list(
            dict.fromkeys(normalize_symbol(stream.partition("@")[0]) for stream in streams.split("/") if "@" in stream)
        )

    def serves(self, host: str, path: str) -> bool:
        return path.startswith(("/ws/", "/stream"))


def _one(frame: Frame, id_key: str) -> Decoded:
    marks: tuple[Mark, ...] = ()
    try:
        symbol, number = read_symbol(frame, "s"), read_id(frame, id_key)
        marks = _trades_in(frame, symbol) if id_key == "a" and "M" in frame else trade_mark(symbol, number)
        time_ms = read_unix_ms(frame, "T" if "T" in frame else "E")
        # The named tuple's own constructor takes twice as long.
        trades = [
            tuple.__new__(MarketTrade, (symbol, read_amount(frame, "p"), read_amount(frame, "q"), number, time_ms))
        ]
        return tuple.__new__(Decoded, (trades, (), marks, "", ""))
    except UndecodableError as error:
        return Decoded([], [str(error)], marks)


def _trades_in(frame: Frame, symbol: str) -> tuple[Mark, ...]:
    first, last = read_number(frame, "f"), read_number(frame, "l")
    if not symbol or first is None or last is None or last < first:
        return ()
    return (tuple.__new__(Mark, (symbol, first, last, True)),)
