"""Gemini's current streams: `/gemini`, then {"id", "method": "subscribe", "params": ["btcusd@trade"]}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proofs.mock_exchange.protocols.subscription import Asked, texts
from proofs.mock_exchange.protocols.wire import Frame, Trade, dump

PATH = "/gemini"
NS_PER_MS = 1_000_000


class GeminiStreams(Asked):
    """Trades {E, s, t, p, q, m}, times in nanoseconds; no history, and no heartbeat but the WebSocket's pings."""

    family = "gemini"
    price_key = "p"

    def answer(self, request: dict[str, Any]) -> None:
        method, streams = request.get("method"), texts(request.get("params"))
        if method not in ("subscribe", "unsubscribe"):
            return
        symbols = [symbol for symbol, _, kind in (stream.partition("@") for stream in streams) if kind == "trade"]
        if not streams or len(symbols) < len(streams):
            error = {"code": -1102, "msg": "Parameter 'params' was malformed."}
            self.reply({"id": request.get("id"), "status": 400, "error": error})
            return
        if method == "subscribe":
            self.ask(symbols)
        else:
            self.drop(symbols)
        self.reply({"id": request.get("id"), "status": 200})

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        (trade,) = trades
        message: Frame = {"E": trade.time_ms * NS_PER_MS, "s": self.spelling(trade), "t": trade.trade_id}
        message |= {"p": trade.price, "q": trade.size, "m": trade.taker == "sell"}
        return message, message

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        """Binance's book tickers and depths: Gemini's have the same shape."""
        if not self.spelled:
            return None
        data = {**recorded.get("data", recorded), "s": next(iter(self.spelled.values())), "E": now_ms * NS_PER_MS}
        return dump(data)
