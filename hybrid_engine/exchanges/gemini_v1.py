"""Gemini v1 market data: an `update` message contains events, some of them trades. The symbol is in the URL only.

`socket_sequence` counts every message of a connection, heartbeats included. Trade ids count the trades of all symbols.
"""

from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges.base import (
    Decoded,
    Exchange,
    Frame,
    Mark,
    UndecodableError,
    normalize_symbol,
    read_amount,
    read_id,
    read_number,
    read_unix_ms,
)

# The query parameters that select trades and heartbeats.
_QUERY = {"heartbeat": "true", "trades": "true", "bids": "false", "offers": "false"}


class GeminiV1(Exchange):
    kind = "gemini_v1"

    def recognizes(self, frame: Frame) -> bool:
        return "socket_sequence" in frame or frame.get("type") == "update"

    def decode(self, frame: Frame) -> Decoded:
        number = read_number(frame, "socket_sequence")
        marks = () if number is None else (Mark("", number, number, False),)
        if frame.get("type") != "update":
            return Decoded([], [], marks)
        events = frame.get("events")
        if not isinstance(events, list):
            return Decoded([], ["events: not a list"], marks)
        trades: list[MarketTrade] = []
        rejections: list[str] = []
        for event in events:
            if not isinstance(event, dict):
                rejections.append("events: not objects")
            elif event.get("type") == "trade":
                try:
                    time_ms, number = read_unix_ms(frame, "timestampms"), read_id(event, "tid")
                    trades.append(
                        MarketTrade("", read_amount(event, "price"), read_amount(event, "amount"), number, time_ms)
                    )
                except UndecodableError as error:
                    rejections.append(str(error))
        return Decoded(trades, rejections, marks)

    def connection_url(self, url: str) -> str:
        parts = urlsplit(url)
        query = {**_QUERY, **dict(parse_qsl(parts.query, keep_blank_values=True))}
        return urlunsplit(parts._replace(query=urlencode(query)))

    def check_symbols(self, url: str, symbols: Sequence[str]) -> None:
        if len(symbols) > 1:
            raise ValueError("the url names the one symbol it sends; give each symbol a [[source]] of its own")

    def symbols_in_url(self, url: str) -> list[str]:
        symbol = normalize_symbol(urlsplit(url).path.rpartition("/v1/marketdata/")[2])
        return [symbol] if symbol else []

    def serves(self, host: str, path: str) -> bool:
        return path.startswith("/v1/marketdata")
