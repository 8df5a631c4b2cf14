"""Gemini's three protocols: the current streams (`gemini`) and the older market data (`gemini_v1`, `gemini_v2`)."""

import json
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from hybrid_engine.exchanges.base import (
    ALL,
    UNKNOWN,
    Decoded,
    Exchange,
    Frame,
    Mark,
    TradeFormat,
    check_name,
    normalize_symbol,
    read_number,
)

_ALL_TRADES = "trades"  # the id of a request for several symbols; that for one is named after its stream
_DOMAINS = ("gemini.com",)
_STREAM = TradeFormat("s", "p", "q", "t", "E")
_V1 = TradeFormat("", "price", "amount", "tid", "timestampms")
_V2 = TradeFormat("symbol", "price", "quantity", "event_id", "timestamp")
# The query parameters of v1 that select trades and heartbeats.
_QUERY = {"heartbeat": "true", "trades": "true", "bids": "false", "offers": "false"}


class Gemini(Exchange):
    """Trades of wss://ws.gemini.com are {E, s, t, p, q, m}, recognizable by having no `e`.

    No marks: nothing says that `t` counts the trades of one symbol, and the ids of the older endpoints do not.
    """

    kind = "gemini"
    must_subscribe = answers_by_id = True
    hosts, paths = ("ws.gemini.com",), "/gemini$"
    domains = _DOMAINS

    def recognizes(self, frame: Frame) -> bool:
        return "type" not in frame

    def decode(self, frame: Frame) -> Decoded:
        match frame:
            case {"e": str()} | {"u": _, "s": str()} | {"lastUpdateId": _}:
                return Decoded()
            case {"id": str(request), "status": 200}:
                return Decoded(acknowledged=ALL if request == _ALL_TRADES else (request.partition("@")[0],))
        return _STREAM.decode([frame]) if "t" in frame or "p" in frame else UNKNOWN

    def subscribe_messages(self, symbols: Sequence[str]) -> list[str]:
        streams = [f"{normalize_symbol(symbol).lower()}@trade" for symbol in symbols]
        request = streams[0] if len(streams) == 1 else _ALL_TRADES
        return [json.dumps({"id": request, "method": "subscribe", "params": streams})]


class GeminiV1(Exchange):
    """An `update` message contains events, some of them trades. The symbol is in the URL only.

    `socket_sequence` counts every message of a connection, heartbeats included. Trade ids count those of all symbols.
    """

    kind = "gemini_v1"
    paths = "/v1/marketdata"
    domains = _DOMAINS

    def recognizes(self, frame: Frame) -> bool:
        return "socket_sequence" in frame or frame.get("type") == "update"

    def decode(self, frame: Frame) -> Decoded:
        number = read_number(frame, "socket_sequence")
        marks = () if number is None else (Mark("", number, number, False),)
        if frame.get("type") != "update":
            return Decoded(marks=marks, known=bool(marks) or frame.get("type") == "heartbeat")
        events = frame.get("events")
        if isinstance(events, list):
            events = [event for event in events if not isinstance(event, dict) or event.get("type") == "trade"]
        decoded = _V1.decode(events, "events", frame)
        return Decoded(decoded.trades, decoded.rejections, marks)

    def connection_url(self, url: str) -> str:
        parts = urlsplit(url)
        query = {**_QUERY, **dict(parse_qsl(parts.query, keep_blank_values=True))}
        return urlunsplit(parts._replace(query=urlencode(query)))

    def check_url(self, url: str) -> None:
        if not self.symbols_in_url(url):
            raise ValueError('names no symbol; write "wss://api.gemini.com/v1/marketdata/btcusd"')

    def check_symbols(self, url: str, symbols: Sequence[str]) -> None:
        if len(symbols) > 1:
            raise ValueError("the url names the one symbol it sends; give each symbol a [[source]] of its own")
        check_name(symbols[0], self.symbols_in_url(url)[0])

    def symbols_in_url(self, url: str) -> list[str]:
        symbol = normalize_symbol(unquote(urlsplit(url).path).rpartition("/v1/marketdata/")[2])
        return [symbol] if symbol else []


class GeminiV2(Exchange):
    """`trade` messages; the `trades` inside `l2_updates` are history.

    No marks: `event_id` counts the events of all symbols, so it has gaps where nothing is missed.
    """

    kind = "gemini_v2"
    must_subscribe = True
    paths = "/v2/marketdata"
    domains = _DOMAINS

    def recognizes(self, frame: Frame) -> bool:
        return frame.get("type") in ("trade", "l2_updates")

    def decode(self, frame: Frame) -> Decoded:
        match frame:
            case {"type": "trade"}:
                return _V2.decode([frame])
            case {"type": "l2_updates", "symbol": str(symbol)}:
                return Decoded(acknowledged=(symbol,), history=_V2.decode_history(frame.get("trades")))
            case {"type": str()}:
                return Decoded()
        return UNKNOWN

    def subscribe_messages(self, symbols: Sequence[str]) -> list[str]:
        subscription = {"name": "l2", "symbols": [normalize_symbol(symbol) for symbol in symbols]}
        return [json.dumps({"type": "subscribe", "subscriptions": [subscription]})]
