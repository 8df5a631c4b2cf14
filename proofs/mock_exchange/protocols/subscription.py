"""Protocols that send nothing until they were asked for symbols, in the exchange's own spelling of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from proofs.mock_exchange.protocols.wire import Frame, Trade, Wire, dump


class Asked(Wire):
    """Keeps what was asked for, and what is to be answered. Subclasses read the request and make the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.subscribed = False
        #: Symbol as recordings name it (BTCUSD) -> as this exchange spells it.
        self.spelled: dict[str, str] = {}
        self._fresh: list[str] = []
        self._replies: list[Frame] = []

    def heard(self, text: str) -> bool:
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return False
        self.answer(request)
        return bool(self._fresh or self._replies)

    def answer(self, request: dict[str, Any]) -> None:
        """Take a request: `ask`, `drop` and `reply` as it demands."""
        raise NotImplementedError

    def ask(self, spelled: Iterable[str]) -> None:
        """Trades of these symbols are wanted from now on."""
        for name in spelled:
            symbol = plain(name)
            if symbol not in self.spelled:
                self.spelled[symbol] = name
                self._fresh.append(symbol)
        self.symbols = list(self.spelled)
        self.subscribed = True

    def drop(self, spelled: Iterable[str]) -> None:
        for name in spelled:
            self.spelled.pop(plain(name), None)
        self.symbols = list(self.spelled)

    def reply(self, frame: Frame) -> None:
        self._replies.append(frame)

    def opening(self, history: Sequence[Trade], now_ms: int) -> list[str]:
        """The answers, and then the history of what has been asked for since the last time."""
        replies, self._replies = self._replies, []
        fresh, self._fresh = self._fresh, []
        shown = [frame for symbol in fresh for frame in self.shown(self.spelled[symbol], history)]
        return [dump(frame) for frame in [*replies, *shown]]

    def shown(self, spelled: str, history: Sequence[Trade]) -> list[Frame]:
        """The frames of history, none of it news, that a new subscription to one symbol begins with."""
        return []

    def spelling(self, trade: Trade) -> str:
        return self.spelled[self.symbol_for(trade)]


def plain(symbol: str) -> str:
    return "".join(c for c in symbol if c.isalnum()).upper()


def texts(value: Any) -> list[str]:
    """The texts in a list; nothing where it is none."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
