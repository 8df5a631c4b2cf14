"""Binance spot: `trade` and `aggTrade`, raw or in a combined stream. The URL names what is sent."""

from hybrid_engine.ingest.exchanges.base import (
    NOTHING,
    Decoded,
    Exchange,
    Frame,
    Undecodable,
    amount,
    id_of,
    symbol_of,
    unix_ms,
)
from hybrid_engine.model import Print


class Binance(Exchange):
    kind = "binance"
    lifetime_s = 24 * 3600.0

    def decode(self, frame: Frame) -> Decoded:
        if "stream" in frame and "data" in frame:
            data, stream = frame["data"], frame["stream"]
            if isinstance(data, dict):
                return self.decode(data) if "stream" not in data else NOTHING
            claims = isinstance(stream, str) and stream.endswith(("@trade", "@aggTrade"))
            return Decoded([], ["data: not an object"]) if claims else NOTHING
        kind = frame.get("e")
        if kind == "trade":
            return _one(frame, "t")
        if kind == "aggTrade":
            return _one(frame, "a")
        return NOTHING

    def serves(self, host: str, path: str) -> bool:
        return path.startswith(("/ws/", "/stream"))


def _one(frame: Frame, id_key: str) -> Decoded:
    time_key = "T" if "T" in frame else "E"
    try:
        time_ms = unix_ms(frame, time_key)
        return Decoded(
            [Print(symbol_of(frame, "s"), amount(frame, "p"), amount(frame, "q"), id_of(frame, id_key), time_ms)], []
        )
    except Undecodable as error:
        return Decoded([], [str(error)])
