"""Gemini: v1 `/v1/marketdata/{symbol}?...`, and v2 `/v2/marketdata` and the current streams `/gemini`.

The last two begin with a subscribe message; that of the streams is {"id", "method": "subscribe", "params":
["btcusd@trade"]}.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from proofs.mock_exchange.protocols.base import (
    ExchangeProtocol,
    Frame,
    RecordedTrade,
    SubscriptionProtocol,
    Trade,
    UnknownPathError,
    dump,
    list_of,
)

V1_PATH = "/v1/marketdata/"
MAKER = {"buy": "ask", "sell": "bid"}
TAKER = {"ask": "buy", "bid": "sell"}
BOOK_SIDE = {"buy": "bid", "sell": "ask"}
NS_PER_MS = 1_000_000


class GeminiV1(ExchangeProtocol):
    """One symbol a socket. Every message carries `socket_sequence`: 0, 1, 2, ... heartbeats included.

    Of bids, offers and trades those not named default to true, but to false once one of them is set to true;
    a client that wants certainty sets all three.
    """

    family = "gemini_v1"
    paths: ClassVar = {"gemini_v1": V1_PATH + "{s}?heartbeat=true&bids=true&offers=true&trades=true"}
    noise_family = "gemini_v2"  # book changes are made of v2's
    batches = True

    @classmethod
    def serves(cls, path: str) -> bool:
        return path.startswith(V1_PATH)

    @staticmethod
    def parse_recorded(frame: Mapping[str, Any]) -> list[RecordedTrade] | None:
        if frame.get("type") != "update" or "events" not in frame:
            return None
        trades = [event for event in frame["events"] if event["type"] == "trade"]
        return [(t["price"], t["amount"], TAKER.get(t["makerSide"], "buy"), "") for t in trades]

    def __init__(self, target: str, trades_per_frame: int = 1) -> None:
        super().__init__(target, trades_per_frame)
        url = urlsplit(target)
        symbol = url.path.removeprefix(V1_PATH).strip("/")
        if not symbol or "/" in symbol:
            raise UnknownPathError(f"no symbol in {target!r}")
        options = {key: values[-1].lower() == "true" for key, values in parse_qs(url.query).items()}
        rest = not any(options.get(key, False) for key in ("bids", "offers", "trades"))
        self._bids, self._offers = options.get("bids", rest), options.get("offers", rest)
        self._heartbeats = options.get("heartbeat", False)
        self.symbols = [symbol.upper()] if options.get("trades", rest) else []
        self.sequence = 0
        self._event_id = 0

    def _update(self, events: list[Frame], now_ms: int, event_id: int) -> Frame:
        message = {
            "type": "update",
            "eventId": event_id,
            "timestamp": now_ms // 1000,
            "timestampms": now_ms,
            "socket_sequence": self.sequence,
            "events": events,
        }
        self.sequence += 1
        return message

    def _wants(self, side: str) -> bool:
        return self._bids if side == "bid" else self._offers

    def _book_changes(self, levels: Iterable[Sequence[str]], reason: str = "") -> list[Frame]:
        """Those of the sides that are subscribed to; without a reason, each sets a level or ends one."""
        return [
            _change(BOOK_SIDE[side], price, left, left, reason or ("cancel" if left == "0" else "place"))
            for side, price, left in levels
            if self._wants(BOOK_SIDE[side])
        ]

    def opening(self, history: Sequence[Trade], now_ms: int) -> list[str]:
        events = self._book_changes(_book_around(history[-1].price), "initial") if history else []
        return [dump(self._update(events, now_ms, history[-1].trade_id))] if events else []

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        events: list[Frame] = []
        for trade in trades:
            side = MAKER[trade.taker]
            event = {"type": "trade", "tid": trade.trade_id, "price": trade.price, "amount": trade.size}
            events.append({**event, "makerSide": side})
            if self._wants(side):
                events.append(_change(side, trade.price, "0.5", f"-{trade.size}", "trade"))
        last = trades[-1]
        return self._update(events, last.time_ms, last.trade_id), events[0]

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        events = self._book_changes(recorded.get("changes", []))
        if not events:
            return None
        self._event_id += 1
        return dump(self._update(events, now_ms, self._event_id))

    def heartbeat(self, now_ms: int) -> str | None:
        if not self._heartbeats:
            return None
        message = {"type": "heartbeat", "socket_sequence": self.sequence}
        self.sequence += 1
        return dump(message)

    def skip_message(self) -> None:
        self.sequence += 1


class GeminiV2(SubscriptionProtocol):
    """Sends nothing before the subscribe message; then a snapshot with history per symbol, then trades."""

    family = "gemini_v2"
    paths: ClassVar = {"gemini_v2": "/v2/marketdata"}

    @staticmethod
    def parse_recorded(frame: Mapping[str, Any]) -> list[RecordedTrade] | None:
        if frame.get("type") == "trade":
            return [(frame["price"], frame["quantity"], frame["side"], frame["symbol"])]
        return [] if frame.get("type") == "l2_updates" and "trades" not in frame else None

    def handle_request(self, request: dict[str, Any]) -> None:
        channels = [one for one in list_of(request.get("subscriptions"), dict) if one.get("name") == "l2"]
        symbols = [symbol.upper() for one in channels for symbol in list_of(one.get("symbols"), str)]
        if request.get("type") == "unsubscribe":
            self.unsubscribe(symbols)
        elif request.get("type") == "subscribe" and symbols:
            self.subscribe(symbols)

    def snapshot(self, name: str, history: Sequence[Trade]) -> Frame | None:
        return {
            "type": "l2_updates",
            "symbol": name,
            "changes": _book_around(history[-1].price) if history else [],
            "trades": [self.trade_frame(trade, name) for trade in reversed(history)],  # as in the recorded snapshots
            "auction_events": [],
        }

    def trade_frame(self, trade: Trade, name: str) -> Frame:
        return {
            "type": "trade",
            "symbol": name,
            "event_id": trade.trade_id,
            "timestamp": trade.time_ms,
            "price": trade.price,
            "quantity": trade.size,
            "side": trade.taker,
        }

    def noise_frame(self, recorded: Mapping[str, Any], name: str, now_ms: int) -> Frame:
        return {**recorded, "symbol": name}

    def heartbeat(self, now_ms: int) -> str | None:
        return dump({"type": "heartbeat", "timestamp": now_ms}) if self.subscribed else None


class GeminiStreams(SubscriptionProtocol):
    """Trades {E, s, t, p, q, m}, times in nanoseconds; no history, and no heartbeat but the WebSocket's pings."""

    family = "gemini"
    paths: ClassVar = {"gemini": "/gemini"}
    noise_family = "binance"
    price_key = "p"

    @staticmethod
    def parse_recorded(frame: Mapping[str, Any]) -> list[RecordedTrade] | None:
        if "e" in frame or not {"E", "s", "t", "p", "q"} <= frame.keys():
            return None
        return [(frame["p"], frame["q"], "sell" if frame["m"] else "buy", frame["s"].upper())]

    def handle_request(self, request: dict[str, Any]) -> None:
        method, streams = request.get("method"), list_of(request.get("params"), str)
        if method not in ("subscribe", "unsubscribe"):
            return
        symbols = [symbol for symbol, _, kind in (stream.partition("@") for stream in streams) if kind == "trade"]
        if not streams or len(symbols) < len(streams):
            error = {"code": -1102, "msg": "Parameter 'params' was malformed."}
            self.reply({"id": request.get("id"), "status": 400, "error": error})
            return
        if method == "subscribe":
            self.subscribe(symbols)
        else:
            self.unsubscribe(symbols)
        self.reply({"id": request.get("id"), "status": 200})

    def trade_frame(self, trade: Trade, name: str) -> Frame:
        frame: Frame = {"E": trade.time_ms * NS_PER_MS, "s": name, "t": trade.trade_id}
        return {**frame, "p": trade.price, "q": trade.size, "m": trade.taker == "sell"}

    def noise_frame(self, recorded: Mapping[str, Any], name: str, now_ms: int) -> Frame:
        """Binance's book tickers and depths: Gemini's have the same shape."""
        return {**recorded.get("data", recorded), "s": name, "E": now_ms * NS_PER_MS}


def _change(side: str, price: str, remaining: str, delta: str, reason: str) -> Frame:
    return {"type": "change", "side": side, "price": price, "remaining": remaining, "delta": delta, "reason": reason}


def _book_around(price: str) -> list[tuple[str, str, str]]:
    """A small made-up order book of (side, price, quantity) around a price, the best of each side first."""
    middle = Decimal(price)
    step = middle / 2000
    unit = Decimal(1).scaleb(min(int(middle.as_tuple().exponent), -2))
    bids = [("buy", str((middle - step * k).quantize(unit)), f"{k}.25") for k in range(1, 6)]
    return bids + [("sell", str((middle + step * k).quantize(unit)), f"{k}.75") for k in range(1, 6)]
