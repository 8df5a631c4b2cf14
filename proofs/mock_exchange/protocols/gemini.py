"""Gemini: v1 `/v1/marketdata/{symbol}?...` and v2 `/v2/marketdata` with its subscribe message."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from proofs.mock_exchange.protocols.base import (
    ExchangeProtocol,
    Frame,
    RecordedTrade,
    Trade,
    UnknownPathError,
    book_around,
    dump,
)

V1_PATH = "/v1/marketdata/"
MAKER = {"buy": "ask", "sell": "bid"}
TAKER = {"ask": "buy", "bid": "sell"}


class GeminiV1(ExchangeProtocol):
    """One symbol a socket. Every message carries `socket_sequence`: 0, 1, 2, ... heartbeats included.

    Of bids, offers and trades those not named default to true, but to false once one of them is set to true;
    a client that wants certainty sets all three.
    """

    family = "gemini_v1"
    paths: ClassVar = {"gemini_v1": V1_PATH + "{s}?heartbeat=true&bids=true&offers=true&trades=true"}
    noise_family = "gemini_v2"  # book changes are made of v2's

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
        super().__init__(target)
        url = urlsplit(target)
        symbol = url.path.removeprefix(V1_PATH).strip("/")
        if not symbol or "/" in symbol:
            raise UnknownPathError(f"no symbol in {target!r}")
        self.trades_per_frame = trades_per_frame
        options = {key: values[-1].lower() == "true" for key, values in parse_qs(url.query).items()}
        rest = not any(options.get(key, False) for key in ("bids", "offers", "trades"))
        self._bids, self._offers = options.get("bids", rest), options.get("offers", rest)
        self._heartbeats = options.get("heartbeat", False)
        self.symbol = symbol.upper()
        self.symbols = [self.symbol] if options.get("trades", rest) else []
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

    def opening(self, history: Sequence[Trade], now_ms: int) -> list[str]:
        if not (self._bids or self._offers) or not history:
            return []
        bids, offers = book_around(history[-1].price)
        events = [
            {"type": "change", "side": side, "price": price, "remaining": left, "delta": left, "reason": "initial"}
            for side, levels in (("bid", bids), ("ask", offers))
            for price, left in levels
            if self._wants(side)
        ]
        return [dump(self._update(events, now_ms, history[-1].trade_id))]

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        events: list[Frame] = []
        for trade in trades:
            side = MAKER[trade.taker]
            event = {"type": "trade", "tid": trade.trade_id, "price": trade.price, "amount": trade.size}
            events.append({**event, "makerSide": side})
            if self._wants(side):
                change = {"type": "change", "side": side, "price": trade.price, "remaining": "0.5"}
                events.append({**change, "delta": f"-{trade.size}", "reason": "trade"})
        last = trades[-1]
        return self._update(events, last.time_ms, last.trade_id), events[0]

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        events: list[Frame] = []
        for side, price, left in recorded.get("changes", []):
            maker = "bid" if side == "buy" else "ask"
            if self._wants(maker):
                change = {"type": "change", "side": maker, "price": price, "remaining": left}
                events.append({**change, "delta": left, "reason": "cancel" if left == "0" else "place"})
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


class GeminiV2(ExchangeProtocol):
    """Sends nothing before the subscribe message; then a snapshot with history per symbol, then trades."""

    family = "gemini_v2"
    paths: ClassVar = {"gemini_v2": "/v2/marketdata"}

    @staticmethod
    def parse_recorded(frame: Mapping[str, Any]) -> list[RecordedTrade] | None:
        if frame.get("type") == "trade":
            return [(frame["price"], frame["quantity"], frame["side"], frame["symbol"])]
        return [] if frame.get("type") == "l2_updates" and "trades" not in frame else None

    def __init__(self, target: str, trades_per_frame: int = 1) -> None:
        super().__init__(target)
        self.subscribed = False
        self._new_symbols: list[str] = []

    def receive(self, text: str) -> bool:
        try:
            message = json.loads(text)
            kind = message.get("type")
            requested = [
                str(symbol).upper()
                for one in message.get("subscriptions", [])
                if one.get("name") == "l2"
                for symbol in one.get("symbols", [])
            ]
        except (ValueError, AttributeError, TypeError):
            return False
        if kind == "unsubscribe":
            self.symbols = [symbol for symbol in self.symbols if symbol not in requested]
        if kind != "subscribe":
            return False
        new = [symbol for symbol in dict.fromkeys(requested) if symbol not in self.symbols]
        self._new_symbols += new
        self.symbols += new
        self.subscribed = self.subscribed or bool(new)
        return bool(new)

    def opening(self, history: Sequence[Trade], now_ms: int) -> list[str]:
        symbols, self._new_symbols = self._new_symbols, []
        bids, offers = book_around(history[-1].price) if history else ([], [])
        changes = [["buy", *level] for level in bids] + [["sell", *level] for level in offers]
        # The newest trade comes first, as in the recorded snapshots.
        return [
            dump(
                {
                    "type": "l2_updates",
                    "symbol": symbol,
                    "changes": changes,
                    "trades": [self._trade(trade, symbol) for trade in reversed(history)],
                    "auction_events": [],
                }
            )
            for symbol in symbols
        ]

    @staticmethod
    def _trade(trade: Trade, symbol: str) -> Frame:
        return {
            "type": "trade",
            "symbol": symbol,
            "event_id": trade.trade_id,
            "timestamp": trade.time_ms,
            "price": trade.price,
            "quantity": trade.size,
            "side": trade.taker,
        }

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        (trade,) = trades
        message = self._trade(trade, self.symbol_for(trade))
        return message, message

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        if not self.symbols:
            return None
        return dump({**recorded, "symbol": self.symbols[0]})

    def heartbeat(self, now_ms: int) -> str | None:
        return dump({"type": "heartbeat", "timestamp": now_ms}) if self.subscribed else None
