"""Coinbase Exchange: `/coinbase`, then a subscribe message within five seconds."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID

from proofs.mock_exchange.protocols.base import Frame, RecordedTrade, SubscriptionProtocol, Trade, dump, list_of

CHANNELS = ("matches", "heartbeat", "ticker", "level2", "level2_batch")
#: `sequence` counts every event of a book; of so many, one is a trade.
EVENTS_PER_TRADE = 7
OTHER_SIDE = {"buy": "sell", "sell": "buy"}


class Coinbase(SubscriptionProtocol):
    """Channels `matches` and `heartbeat`; the others bring noise. Heartbeats come for each product by turns."""

    family = "coinbase"
    paths: ClassVar = {"coinbase": "/coinbase"}
    subscribe_within = 5.0

    @staticmethod
    def parse_recorded(frame: Mapping[str, Any]) -> list[RecordedTrade] | None:
        if frame.get("type") == "match":
            taker = OTHER_SIDE.get(frame["side"], "buy")  # the frame has the maker's
            return [(frame["price"], frame["size"], taker, frame["product_id"].replace("-", ""))]
        return [] if frame.get("type") in ("ticker", "l2update") else None

    def __init__(self, target: str, trades_per_frame: int = 1) -> None:
        super().__init__(target, trades_per_frame)
        self._channels: dict[str, list[str]] = {}
        self._last_trade_ids: dict[str, int] = {}
        self._heartbeats = 0

    @property
    def wants_trades(self) -> bool:
        return self.subscribed and bool(self._channels.get("matches"))

    @property
    def heartbeats_due(self) -> int:
        return len(self._channels.get("heartbeat", []))

    def handle_request(self, request: dict[str, Any]) -> None:
        kind, channels = request.get("type"), request.get("channels")
        if kind not in ("subscribe", "unsubscribe"):
            return
        default_products = list_of(request.get("product_ids"), str)
        requested: dict[str, list[str]] = {}
        for one in channels if isinstance(channels, list) else []:
            name = str(one.get("name") if isinstance(one, dict) else one)
            own_products = list_of(one.get("product_ids"), str) if isinstance(one, dict) else []
            requested[name] = own_products or default_products
        if reason := _refusal_reason(requested):
            self.reply({"type": "error", "message": f"Failed to {kind}", "reason": reason})
            return
        for name, products in requested.items():
            others = [product for product in self._channels.get(name, []) if product not in products]
            self._channels[name] = others + (products if kind == "subscribe" else [])
        subscribed = {product for products in self._channels.values() for product in products}
        self.unsubscribe(set(self.spellings.values()) - subscribed)
        self.subscribe(sorted(subscribed))
        subscriptions = [{"name": name, "product_ids": products} for name, products in self._channels.items()]
        self.reply({"type": "subscriptions", "channels": [one for one in subscriptions if one["product_ids"]]})

    def snapshot(self, name: str, history: Sequence[Trade]) -> Frame | None:
        if not history or name not in self._channels.get("matches", []):
            return None
        return {**self.trade_frame(history[-1], name), "type": "last_match"}

    def trade_frame(self, trade: Trade, name: str) -> Frame:
        self._last_trade_ids[name] = trade.trade_id
        return {
            "type": "match",
            "trade_id": trade.trade_id,
            "maker_order_id": str(UUID(int=2 * trade.trade_id + 2**96)),
            "taker_order_id": str(UUID(int=2 * trade.trade_id + 2**96 + 1)),
            "side": OTHER_SIDE[trade.taker],  # the maker's
            "size": trade.size,
            "price": trade.price,
            "product_id": name,
            "sequence": trade.trade_id * EVENTS_PER_TRADE,
            "time": rfc3339(trade.time_ms),
        }

    def noise_frame(self, recorded: Mapping[str, Any], name: str, now_ms: int) -> Frame:
        return {**recorded, "product_id": name, "time": rfc3339(now_ms)}

    def heartbeat(self, now_ms: int) -> str | None:
        products = self._channels.get("heartbeat")
        if not products:
            return None
        self._heartbeats += 1
        product = products[self._heartbeats % len(products)]
        last_trade_id = self._last_trade_ids.get(product, 0)
        message = {"type": "heartbeat", "last_trade_id": last_trade_id, "product_id": product}
        return dump({**message, "sequence": last_trade_id * EVENTS_PER_TRADE, "time": rfc3339(now_ms)})


def _refusal_reason(requested: Mapping[str, list[str]]) -> str:
    """Why a request is refused as a whole, "" when it is not."""
    for name, products in requested.items():
        if name not in CHANNELS:
            return f"{name} is not a valid channel"
        invalid = [product for product in products if product.count("-") != 1]
        if invalid or not products:
            return f"{''.join(invalid[:1])} is not a valid product"
    return "" if requested else "no channels"


def rfc3339(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03}000Z"
