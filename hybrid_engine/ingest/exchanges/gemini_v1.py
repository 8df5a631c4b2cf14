"""Gemini v1 market data: `update` messages hold events, some of them trades. The symbol is in the URL only."""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from hybrid_engine.ingest.exchanges.base import (
    NOTHING,
    Decoded,
    Exchange,
    Frame,
    Undecodable,
    amount,
    id_of,
    unix_ms,
)
from hybrid_engine.model import Print

# It sends what it is asked for only when each part is asked for by name.
_QUERY = {"heartbeat": "true", "trades": "true", "bids": "false", "offers": "false"}


class GeminiV1(Exchange):
    kind = "gemini_v1"

    def decode(self, frame: Frame) -> Decoded:
        if frame.get("type") != "update":
            return NOTHING
        events = frame.get("events")
        if not isinstance(events, list):
            return Decoded([], ["events: not a list"])
        prints: list[Print] = []
        rejections: list[str] = []
        for event in events:
            if not isinstance(event, dict):
                rejections.append("events: not objects")
            elif event.get("type") == "trade":
                try:
                    time_ms = unix_ms(frame, "timestampms")
                    prints.append(
                        Print("", amount(event, "price"), amount(event, "amount"), id_of(event, "tid"), time_ms)
                    )
                except Undecodable as error:
                    rejections.append(str(error))
        return Decoded(prints, rejections)

    def ask(self, url: str) -> str:
        parts = urlsplit(url)
        query = {**_QUERY, **dict(parse_qsl(parts.query, keep_blank_values=True))}
        return urlunsplit(parts._replace(query=urlencode(query)))

    def serves(self, host: str, path: str) -> bool:
        return path.startswith("/v1/marketdata")
