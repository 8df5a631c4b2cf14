"""What every exchange's protocol has in common: a trade goes in, the text of a frame comes out.

A `Wire` belongs to one connection. It knows what the client asked for (from the path, or from a subscribe
message), keeps what the protocol counts per socket (Gemini v1's `socket_sequence`), and never decides *when*
something is sent: that is the session's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

Frame = dict[str, Any]

#: Ways a frame can claim to be a trade and not be one. `not-json` is no JSON at all.
SPOILS = ("not-json", "no-price", "empty-price", "nan-price", "negative-price", "word-price")

dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class UnknownPathError(Exception):
    """The path of an upgrade request names nothing this exchange has."""


@dataclass(frozen=True, slots=True)
class Trade:
    """One numbered trade, ready to be framed.

    number: 1..n over the life of the exchange; trade_id: what the frame shows (number + first_id - 1);
    symbol: as recorded (a wire gives it the subscribed one); price, size: decimal strings, as exchanges send
    them; taker: "buy" or "sell"; time_ms: milliseconds UTC.
    """

    number: int
    trade_id: int
    symbol: str
    price: str
    size: str
    taker: str
    time_ms: int


class Wire:
    """One connection's protocol. Each exchange's module has its own, and `paths` tells which is meant."""

    family = ""
    #: How many trades one frame may hold.
    trades_per_frame = 1
    #: Seconds within which a client must subscribe, or it is sent away; None for as long as it likes.
    subscribe_within: float | None = None

    def __init__(self) -> None:
        #: Exchange's spelling of the symbols whose trades this connection asked for.
        self.symbols: list[str] = []
        #: False while nothing has been asked for yet (where a subscribe message does that).
        self.subscribed = True

    @property
    def wants_trades(self) -> bool:
        return self.subscribed and bool(self.symbols)

    def opening(self, history: Sequence[Trade], now_ms: int) -> list[str]:
        """Frames that come first: snapshots and history. `history` is oldest first; none of it is news."""
        return []

    def heard(self, text: str) -> bool:
        """Take a message of the client; True when it subscribed to something new."""
        return False

    def symbol_for(self, trade: Trade) -> str:
        """The subscribed symbol this trade is sent under: its own if asked for, else by turns."""
        if trade.symbol in self.symbols:
            return trade.symbol
        return self.symbols[(trade.number - 1) % len(self.symbols)]

    def trades(self, trades: Sequence[Trade]) -> str:
        """The frame of `trades` (at most `trades_per_frame` of them)."""
        message, _ = self.message(trades)
        return dump(message)

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        """The frame as a dict, and the part of it that holds the first trade's price."""
        raise NotImplementedError

    #: The key of the price in the part `message` returns.
    price_key = "price"

    def spoiled(self, trade: Trade, kind: str) -> str:
        """A frame that claims to be a trade and cannot be decoded, in one of the ways of `SPOILS`."""
        message, holder = self.message([trade])
        match kind:
            case "not-json":
                return dump(message)[:-7]
            case "no-price":
                del holder[self.price_key]
            case "empty-price":
                holder[self.price_key] = ""
            case "nan-price":
                holder[self.price_key] = "NaN"
            case "negative-price":
                holder[self.price_key] = "-" + trade.price
            case "word-price":
                holder[self.price_key] = "cheap"
            case _:
                raise ValueError(f"garbage {kind!r}: expected one of {', '.join(SPOILS)}")
        return dump(message)

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        """A recorded frame that is no trade, made news; None if this client asked for nothing of the kind."""
        raise NotImplementedError

    def heartbeat(self, now_ms: int) -> str | None:
        """The protocol's own heartbeat, if it has one and the client asked for it."""
        return None

    @property
    def beats(self) -> int:
        """How many heartbeats are due at a time."""
        return 1

    def lost(self) -> None:
        """Forget to send a message: whatever the protocol counts per socket moves on all the same."""


def book_around(price: str, levels: int = 5) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """A small made-up order book (bids, offers) of (price, quantity) around a price, best first."""
    middle = Decimal(price)
    step = middle / 2000
    unit = Decimal(1).scaleb(min(int(middle.as_tuple().exponent), -2))
    bids = [(str((middle - step * k).quantize(unit, ROUND_HALF_EVEN)), f"{k}.25") for k in range(1, levels + 1)]
    offers = [(str((middle + step * k).quantize(unit, ROUND_HALF_EVEN)), f"{k}.75") for k in range(1, levels + 1)]
    return bids, offers
