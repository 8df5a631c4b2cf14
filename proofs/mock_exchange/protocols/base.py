"""The base of every exchange's protocol: it turns trades into the text of frames, and recorded frames into trades.

An `ExchangeProtocol` belongs to one connection. It knows what the client subscribed to (by the path, or by a
message), keeps what the protocol counts per socket (Gemini v1's `socket_sequence`), and never decides *when*
something is sent: the session does that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, ClassVar

from proofs.mock_exchange.errors import MockExchangeError

Frame = dict[str, Any]
RecordedTrade = tuple[str, str, str, str]  # price, size, taker, symbol without separators

#: Ways in which a frame can claim to be a trade and not be one. `not-json` is no JSON at all.
GARBAGE_KINDS = ("not-json", "no-price", "empty-price", "nan-price", "negative-price", "word-price")

dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class UnknownPathError(MockExchangeError):
    """The path of an upgrade request is that of no protocol."""


@dataclass(frozen=True, slots=True)
class Trade:
    """One numbered trade, ready to be framed.

    number: 1..n over the life of the exchange; trade_id: what the frame shows (number + first_id - 1);
    symbol: as recorded (a protocol replaces it by a subscribed one); price, size: decimal strings, as exchanges send
    them; taker: "buy" or "sell"; time_ms: milliseconds UTC.
    """

    number: int
    trade_id: int
    symbol: str
    price: str
    size: str
    taker: str
    time_ms: int


class ExchangeProtocol:
    """One connection's protocol. Each exchange's module has its own; `registry` lists them.

    target: path and query of the upgrade request; trades_per_frame: at most so many, where a frame can hold several.
    """

    family: ClassVar[str]
    #: Kind of source -> path and query that a client of it asks for, with {s} for the symbol.
    paths: ClassVar[Mapping[str, str]]
    #: The protocol whose recorded frames are this one's noise; "" for its own.
    noise_family: ClassVar[str] = ""
    #: How many trades one frame may hold.
    trades_per_frame = 1
    #: Seconds within which a client must subscribe, or its connection is closed; None for no limit.
    subscribe_within: float | None = None

    def __init__(self, target: str, trades_per_frame: int = 1) -> None:
        #: The exchange's spelling of the symbols whose trades this connection subscribed to.
        self.symbols: list[str] = []
        #: False until the first subscription (where that is a message).
        self.subscribed = True

    @classmethod
    def serves(cls, path: str) -> bool:
        """Whether the path of an upgrade request is this protocol's."""
        return path.rstrip("/") in cls.paths.values()

    @staticmethod
    def parse_recorded(frame: Mapping[str, Any]) -> list[RecordedTrade] | None:
        """The trades in a recorded frame of this protocol, none for noise; None for any other frame, and snapshots.

        Raises KeyError, TypeError, ValueError or AttributeError for a frame that cannot be read.
        """
        return None

    @property
    def wants_trades(self) -> bool:
        return self.subscribed and bool(self.symbols)

    def opening(self, history: Sequence[Trade], now_ms: int) -> list[str]:
        """Frames that precede the trades: replies, snapshots and history. `history` is oldest first."""
        return []

    def receive(self, text: str) -> bool:
        """Take a message of the client; True when there is something to send for it now (`opening`)."""
        return False

    def symbol_for(self, trade: Trade) -> str:
        """The subscribed symbol that this trade is sent under: its own if subscribed to, else by turns."""
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

    def garbage_frame(self, trade: Trade, kind: str) -> str:
        """A frame that claims to be a trade and cannot be decoded, in one of the ways of `GARBAGE_KINDS`."""
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
                raise ValueError(f"garbage {kind!r}: expected one of {', '.join(GARBAGE_KINDS)}")
        return dump(message)

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        """A recorded frame that is no trade, as if of now; None if this client subscribed to nothing of the kind."""
        raise NotImplementedError

    def heartbeat(self, now_ms: int) -> str | None:
        """The protocol's own heartbeat, if it has one and the client subscribed to it."""
        return None

    @property
    def heartbeats_due(self) -> int:
        """How many heartbeats are due at a time."""
        return 1

    def skip_message(self) -> None:
        """Lose a message: what the protocol counts per socket moves on without it."""


def book_around(price: str, levels: int = 5) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """A small made-up order book (bids, offers) of (price, quantity) around a price, best first."""
    middle = Decimal(price)
    step = middle / 2000
    unit = Decimal(1).scaleb(min(int(middle.as_tuple().exponent), -2))
    bids = [(str((middle - step * k).quantize(unit, ROUND_HALF_EVEN)), f"{k}.25") for k in range(1, levels + 1)]
    offers = [(str((middle + step * k).quantize(unit, ROUND_HALF_EVEN)), f"{k}.75") for k in range(1, levels + 1)]
    return bids, offers
