"""Gemini's current streams: `/gemini`, then {"id", "method": "subscribe", "params": ["btcusd@trade"]}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from proofs.mock_exchange.protocols.base import Frame, RecordedTrade, Trade, dump
from proofs.mock_exchange.protocols.subscription import SubscriptionProtocol, strings_of

NS_PER_MS = 1_000_000


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
        method, streams = request.get("method"), strings_of(request.get("params"))
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

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        (trade,) = trades
        message: Frame = {"E": trade.time_ms * NS_PER_MS, "s": self.spelling(trade), "t": trade.trade_id}
        message |= {"p": trade.price, "q": trade.size, "m": trade.taker == "sell"}
        return message, message

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        """Binance's book tickers and depths: Gemini's have the same shape."""
        if not self.spellings:
            return None
        data = {**recorded.get("data", recorded), "s": next(iter(self.spellings.values())), "E": now_ms * NS_PER_MS}
        return dump(data)
