"""Kraken v2: `/v2`, then a subscribe message. Prices and quantities are JSON numbers."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from proofs.mock_exchange.protocols.base import Frame, RecordedTrade, SubscriptionProtocol, Trade, dump, list_of
from proofs.mock_exchange.protocols.coinbase import rfc3339

STATUS = {"api_version": "v2", "connection_id": 1, "system": "online", "version": "2.0.10"}


class Kraken(SubscriptionProtocol):
    """The channel `trade`, acknowledged symbol by symbol, with a snapshot of history unless that is declined."""

    family = "kraken"
    paths: ClassVar = {"kraken": "/v2"}
    noise_family = "coinbase"
    batches = True
    _snapshots = True

    @staticmethod
    def parse_recorded(frame: Mapping[str, Any]) -> list[RecordedTrade] | None:
        if (frame.get("channel"), frame.get("type")) != ("trade", "update"):
            return None
        return [
            (_decimal(one["price"]), _decimal(one["qty"]), one["side"], one["symbol"].replace("/", ""))
            for one in frame["data"]
        ]

    def handle_request(self, request: dict[str, Any]) -> None:
        method, params = request.get("method"), request.get("params")
        if method == "ping":
            self.reply({"method": "pong"})
        if method not in ("subscribe", "unsubscribe") or not isinstance(params, dict):
            return
        symbols = list_of(params.get("symbol"), str)
        if params.get("channel") != "trade" or not symbols:
            self.reply({"error": "Channel field missing", "method": method, "success": False})
            return
        supported = [symbol for symbol in symbols if symbol.count("/") == 1]
        self._snapshots = params.get("snapshot") is not False
        if not self.subscribed:
            self.reply({"channel": "status", "type": "update", "data": [STATUS]})
        for symbol in symbols:
            if symbol in supported:
                result = {"channel": "trade", "snapshot": self._snapshots, "symbol": symbol}
                self.reply({"method": method, "result": result, "success": True})
            else:
                error = f"Currency pair not supported {symbol}"
                self.reply({"error": error, "method": method, "success": False, "symbol": symbol})
        if method == "unsubscribe":
            self.unsubscribe(supported)
        elif supported:
            self.subscribe(supported)

    def snapshot(self, name: str, history: Sequence[Trade]) -> Frame | None:
        if not history or not self._snapshots:
            return None
        return {"channel": "trade", "type": "snapshot", "data": [self.trade_frame(trade, name) for trade in history]}

    def trade_frame(self, trade: Trade, name: str) -> Frame:
        return {
            "symbol": name,
            "side": trade.taker,
            "price": float(trade.price),
            "qty": float(trade.size),
            "ord_type": "market",
            "trade_id": trade.trade_id,
            "timestamp": rfc3339(trade.time_ms),
        }

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        data = [self.trade_frame(trade, self.spelling(trade)) for trade in trades]
        return {"channel": "trade", "type": "update", "data": data}, data[0]

    def noise_frame(self, recorded: Mapping[str, Any], name: str, now_ms: int) -> Frame:
        """Coinbase's book changes and tickers, as Kraken would put them."""
        if "changes" not in recorded:
            ticker = {"symbol": name, "last": float(recorded["price"])}
            return {"channel": "ticker", "type": "update", "data": [ticker]}
        sides: dict[str, list[Frame]] = {"buy": [], "sell": []}
        for side, price, left in recorded["changes"]:
            sides[side].append({"price": float(price), "qty": float(left)})
        book = {"symbol": name, "bids": sides["buy"], "asks": sides["sell"], "checksum": 0}
        return {"channel": "book", "type": "update", "data": [{**book, "timestamp": rfc3339(now_ms)}]}

    def heartbeat(self, now_ms: int) -> str | None:
        return dump({"channel": "heartbeat"}) if self.subscribed else None


def _decimal(number: float) -> str:
    """A JSON number as the other exchanges write it, without an exponent."""
    return format(Decimal(str(number)), "f")
