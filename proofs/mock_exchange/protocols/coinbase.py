"""Coinbase Exchange: `/coinbase`, then a subscribe message, and that soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from proofs.mock_exchange.protocols.subscription import Asked, texts
from proofs.mock_exchange.protocols.wire import Frame, Trade, dump

PATH = "/coinbase"
CHANNELS = ("matches", "heartbeat", "ticker", "level2", "level2_batch")
#: Of all that happens to a book, which `sequence` counts, so much is not a trade.
EVENTS_PER_TRADE = 7


class Coinbase(Asked):
    """Channels `matches` and `heartbeat`; the others bring noise. Heartbeats come for each product by turns."""

    family = "coinbase"
    subscribe_within = 5.0

    def __init__(self) -> None:
        super().__init__()
        self._channels: dict[str, list[str]] = {}
        self._newest: dict[str, int] = {}
        self._beat = 0

    @property
    def wants_trades(self) -> bool:
        return self.subscribed and bool(self._channels.get("matches"))

    @property
    def beats(self) -> int:
        return len(self._channels.get("heartbeat", []))

    def answer(self, request: dict[str, Any]) -> None:
        kind, given = request.get("type"), request.get("channels")
        if kind not in ("subscribe", "unsubscribe"):
            return
        everywhere = texts(request.get("product_ids"))
        asked: dict[str, list[str]] = {}
        for one in given if isinstance(given, list) else []:
            name = str(one.get("name") if isinstance(one, dict) else one)
            asked[name] = (texts(one.get("product_ids")) if isinstance(one, dict) else []) or everywhere
        why = _mistake(asked)
        if why:
            self.reply({"type": "error", "message": f"Failed to {kind}", "reason": why})
            return
        for name, products in asked.items():
            kept = [product for product in self._channels.get(name, []) if product not in products]
            self._channels[name] = kept + (products if kind == "subscribe" else [])
        wanted = {product for products in self._channels.values() for product in products}
        self.drop(set(self.spelled.values()) - wanted)
        self.ask(sorted(wanted))
        channels = [{"name": name, "product_ids": products} for name, products in self._channels.items() if products]
        self.reply({"type": "subscriptions", "channels": channels})

    def shown(self, spelled: str, history: Sequence[Trade]) -> list[Frame]:
        if not history or spelled not in self._channels.get("matches", []):
            return []
        return [{**self._match(history[-1], spelled), "type": "last_match"}]

    def _match(self, trade: Trade, product: str) -> Frame:
        self._newest[product] = trade.trade_id
        return {
            "type": "match",
            "trade_id": trade.trade_id,
            "maker_order_id": str(UUID(int=2 * trade.trade_id + 2**96)),
            "taker_order_id": str(UUID(int=2 * trade.trade_id + 2**96 + 1)),
            "side": "sell" if trade.taker == "buy" else "buy",  # the maker's
            "size": trade.size,
            "price": trade.price,
            "product_id": product,
            "sequence": trade.trade_id * EVENTS_PER_TRADE,
            "time": rfc3339(trade.time_ms),
        }

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        (trade,) = trades
        message = self._match(trade, self.spelling(trade))
        return message, message

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        products = list(self.spelled.values())
        return dump({**recorded, "product_id": products[0], "time": rfc3339(now_ms)}) if products else None

    def heartbeat(self, now_ms: int) -> str | None:
        products = self._channels.get("heartbeat")
        if not products:
            return None
        self._beat += 1
        product = products[self._beat % len(products)]
        newest = self._newest.get(product, 0)
        message = {"type": "heartbeat", "last_trade_id": newest, "product_id": product}
        return dump({**message, "sequence": newest * EVENTS_PER_TRADE, "time": rfc3339(now_ms)})


def _mistake(asked: Mapping[str, list[str]]) -> str:
    """Why a request is refused as a whole, "" when it is not."""
    for name, products in asked.items():
        if name not in CHANNELS:
            return f"{name} is not a valid channel"
        strange = [product for product in products if product.count("-") != 1]
        if strange or not products:
            return f"{''.join(strange[:1])} is not a valid product"
    return "" if asked else "no channels"


def rfc3339(time_ms: int) -> str:
    whole = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03}000Z"
