"""Gemini v1 market data: `update` messages hold events, some of them trades. The symbol is in the URL only.

`socket_sequence` counts every message of a socket, heartbeats included. The ids of trades count all of Gemini's.
"""

from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges.base import (
    Decoded,
    Exchange,
    Frame,
    Mark,
    Undecodable,
    amount,
    id_of,
    number_of,
    plain,
    unix_ms,
)

# It sends what it is asked for only when each part is asked for by name.
_QUERY = {"heartbeat": "true", "trades": "true", "bids": "false", "offers": "false"}


class GeminiV1(Exchange):
    kind = "gemini_v1"

    def decode(self, frame: Frame) -> Decoded:
        number = number_of(frame, "socket_sequence")
        marks = () if number is None else (Mark("", number, number, False),)
        if frame.get("type") != "update":
            return Decoded([], [], marks)
        events = frame.get("events")
        if not isinstance(events, list):
            return Decoded([], ["events: not a list"], marks)
        prints: list[MarketTrade] = []
        rejections: list[str] = []
        for event in events:
            if not isinstance(event, dict):
                rejections.append("events: not objects")
            elif event.get("type") == "trade":
                try:
                    time_ms, number = unix_ms(frame, "timestampms"), id_of(event, "tid")
                    prints.append(MarketTrade("", amount(event, "price"), amount(event, "amount"), number, time_ms))
                except Undecodable as error:
                    rejections.append(str(error))
        return Decoded(prints, rejections, marks)

    def ask(self, url: str) -> str:
        parts = urlsplit(url)
        query = {**_QUERY, **dict(parse_qsl(parts.query, keep_blank_values=True))}
        return urlunsplit(parts._replace(query=urlencode(query)))

    def check(self, url: str, symbols: Sequence[str]) -> None:
        if len(symbols) > 1:
            raise ValueError("the url names the one symbol it sends; give each symbol a [[source]] of its own")

    def named(self, url: str) -> list[str]:
        symbol = plain(urlsplit(url).path.rpartition("/v1/marketdata/")[2])
        return [symbol] if symbol else []

    def serves(self, host: str, path: str) -> bool:
        return path.startswith("/v1/marketdata")
