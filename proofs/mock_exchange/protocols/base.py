"""The bases of every exchange's protocol: they turn trades into the text of frames, and recorded frames into trades.

An `ExchangeProtocol` belongs to one connection. It knows what the client subscribed to (by the path, or by a
message), keeps what the protocol counts per socket (Gemini v1's `socket_sequence`), and never decides *when*
something is sent: the session does that.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from proofs.mock_exchange.errors import MockExchangeError

T = TypeVar("T")
Frame = dict[str, Any]
RecordedTrade = tuple[str, str, str, str]  # price, size, taker, symbol without separators

_BAD_PRICES = {"empty-price": "", "nan-price": "NaN", "negative-price": "-{}", "word-price": "cheap"}
#: Ways in which a frame can claim to be a trade and not be one. `not-json` is no JSON at all.
GARBAGE_KINDS = ("not-json", "no-price", *_BAD_PRICES)

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
    #: Whether one frame may hold several trades.
    batches: ClassVar[bool] = False
    #: The key of the price in the part that `message` returns.
    price_key: ClassVar[str] = "price"
    #: Seconds within which a client must subscribe, or its connection is closed; None for no limit.
    subscribe_within: ClassVar[float | None] = None
    #: False until the first subscription (where that is a message).
    subscribed = True

    def __init__(self, target: str, trades_per_frame: int = 1) -> None:
        self.trades_per_frame = trades_per_frame if self.batches else 1
        #: The symbols whose trades this connection subscribed to, as recordings name them.
        self.symbols: list[str] = []

    @classmethod
    def serves(cls, path: str) -> bool:
        """Whether the path of an upgrade request is this protocol's."""
        return path.rstrip("/") in cls.paths.values()

    @staticmethod
    def parse_recorded(frame: Mapping[str, Any]) -> list[RecordedTrade] | None:
        """The trades in a recorded frame of this protocol, none for noise; None for any other frame, and snapshots.

        Raises KeyError, TypeError, ValueError or AttributeError for a frame that cannot be read.
        """
        raise NotImplementedError

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
        return dump(self.message(trades)[0])

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        """The frame as a dict, and the part of it that holds the first trade's price."""
        raise NotImplementedError

    def garbage_frame(self, trade: Trade, kind: str) -> str:
        """A frame that claims to be a trade and cannot be decoded, in one of the ways of `GARBAGE_KINDS`."""
        message, holder = self.message([trade])
        if kind == "not-json":
            return dump(message)[:-7]
        if kind == "no-price":
            del holder[self.price_key]
        else:
            holder[self.price_key] = _BAD_PRICES[kind].format(trade.price)
        return dump(message)

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        """A recorded frame that is no trade, as if of now; None if this client subscribed to nothing of the kind."""
        raise NotImplementedError

    def heartbeat(self, now_ms: int) -> str | None:
        """The protocol's own heartbeat, if it has one and the client subscribed to it."""
        return None

    def closing_notice(self, now_ms: int) -> str | None:
        """The frame that announces the end of this connection, if the exchange has one."""
        return None

    @property
    def heartbeats_due(self) -> int:
        """How many heartbeats are due at a time."""
        return 1

    def skip_message(self) -> None:
        """Lose a message: what the protocol counts per socket moves on without it."""


class SubscriptionProtocol(ExchangeProtocol):
    """A client subscribes by messages, with symbols in the exchange's own spelling.

    This keeps the subscriptions and the replies still to be sent; subclasses read requests and make the frames.
    """

    subscribed = False

    def __init__(self, target: str, trades_per_frame: int = 1) -> None:
        super().__init__(target, trades_per_frame)
        #: Symbol as recordings name it (BTCUSD) -> as this exchange spells it.
        self.spellings: dict[str, str] = {}
        self._new_symbols: list[str] = []
        self._replies: list[Frame] = []

    def receive(self, text: str) -> bool:
        try:
            request = json.loads(text)
        except ValueError:
            return False
        before = len(self._new_symbols) + len(self._replies)
        if isinstance(request, dict):
            self.handle_request(request)
        return len(self._new_symbols) + len(self._replies) > before

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
        snapshots = [self.snapshot(self.spellings[symbol], history) for symbol in symbols]
        return [dump(frame) for frame in [*replies, *snapshots] if frame]

    def snapshot(self, name: str, history: Sequence[Trade]) -> Frame | None:
        """The frame that a new subscription to one symbol begins with, if there is one."""
        return None

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        (trade,) = trades
        frame = self.trade_frame(trade, self.spelling(trade))
        return frame, frame

    def trade_frame(self, trade: Trade, name: str) -> Frame:
        """One trade of the symbol that is spelled so."""
        raise NotImplementedError

    def spelling(self, trade: Trade) -> str:
        return self.spellings[self.symbol_for(trade)]

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        name = next(iter(self.spellings.values()), None)
        return None if name is None else dump(self.noise_frame(recorded, name, now_ms))

    def noise_frame(self, recorded: Mapping[str, Any], name: str, now_ms: int) -> Frame:
        """A recorded frame that is no trade, as if of now and of the symbol that is spelled so."""
        raise NotImplementedError


def plain_symbol(symbol: str) -> str:
    """A symbol as recordings name it: btc-usd becomes BTCUSD."""
    return "".join(c for c in symbol if c.isalnum()).upper()


def list_of(value: Any, kind: type[T]) -> list[T]:
    """The items of that type in a list; none for anything else."""
    return [one for one in value if isinstance(one, kind)] if isinstance(value, list) else []
