"""The base of protocols in which a client subscribes by messages, with symbols in the exchange's own spelling."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from proofs.mock_exchange.protocols.base import ExchangeProtocol, Frame, Trade, dump


class SubscriptionProtocol(ExchangeProtocol):
    """Keeps the subscriptions and the replies still to be sent. Subclasses read requests and make the replies."""

    def __init__(self, target: str, trades_per_frame: int = 1) -> None:
        super().__init__(target)
        self.subscribed = False
        #: Symbol as recordings name it (BTCUSD) -> as this exchange spells it.
        self.spellings: dict[str, str] = {}
        self._new_symbols: list[str] = []
        self._replies: list[Frame] = []

    def receive(self, text: str) -> bool:
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return False
        self.handle_request(request)
        return bool(self._new_symbols or self._replies)

    def handle_request(self, request: dict[str, Any]) -> None:
        """Carry out a request of the client: `subscribe`, `unsubscribe` and `reply` as it demands."""
        raise NotImplementedError

    def subscribe(self, names: Iterable[str]) -> None:
        """Send trades of these symbols from now on."""
        for name in names:
            symbol = plain_symbol(name)
            if symbol not in self.spellings:
                self.spellings[symbol] = name
                self._new_symbols.append(symbol)
        self.symbols = list(self.spellings)
        self.subscribed = True

    def unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            self.spellings.pop(plain_symbol(name), None)
        self.symbols = list(self.spellings)

    def reply(self, frame: Frame) -> None:
        self._replies.append(frame)

    def opening(self, history: Sequence[Trade], now_ms: int) -> list[str]:
        """The replies, and then the history of the symbols subscribed to since the last call."""
        replies, self._replies = self._replies, []
        symbols, self._new_symbols = self._new_symbols, []
        history_frames = [frame for symbol in symbols for frame in self.history_frames(self.spellings[symbol], history)]
        return [dump(frame) for frame in [*replies, *history_frames]]

    def history_frames(self, name: str, history: Sequence[Trade]) -> list[Frame]:
        """The frames of past trades that a new subscription to one symbol begins with."""
        return []

    def spelling(self, trade: Trade) -> str:
        return self.spellings[self.symbol_for(trade)]


def plain_symbol(symbol: str) -> str:
    """A symbol as recordings name it: btc-usd becomes BTCUSD."""
    return "".join(c for c in symbol if c.isalnum()).upper()


def strings_of(value: Any) -> list[str]:
    """The strings in a list; empty for anything else."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
