"""What every exchange has in common: how a frame is read, and the checks its fields pass.

Most frames of a real connection are no trades; they are ignored. Unknown types are ignored too, as exchanges demand. A
frame that claims to be a trade and cannot be decoded is a rejection.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from hybrid_engine.model import Print

_MAX_INT = 2**63 - 1  # what a column of the store holds
_MICROSECONDS = 10**14  # a Unix time above it is not in milliseconds: that would be the year 5138

Frame = dict[str, Any]


class Mark(NamedTuple):
    """Consecutive numbers that a frame covers, so that a hole between two frames can be seen.

    `symbol` "" numbers the whole socket. `lasting`: the numbers go on across connections, as trade ids do; otherwise
    they start anew with each socket. Empty, `last` being `first` - 1, it says that the numbers below `first` exist: an
    exchange tells so with history and heartbeats, which bring no trades.
    """

    symbol: str
    first: int
    last: int
    lasting: bool


class Decoded(NamedTuple):
    """Trades in order, with the exchange's own symbol ("" where frames name none); and why others failed.

    `moving`: why the exchange will close this connection soon; `refused`: why it will not send what was subscribed to.
    Both are "" when it said nothing of the kind.
    """

    prints: Sequence[Print]
    rejections: Sequence[str]
    marks: Sequence[Mark] = ()
    moving: str = ""
    refused: str = ""


NOTHING = Decoded([], [])


class Exchange:
    """One exchange's protocol. An instance keeps no state: connections share it."""

    kind = ""  # what `ws_sources.toml` calls it
    lifetime_s = 0.0  # the exchange closes each connection after so many seconds; 0: it does not
    must_subscribe = False  # it sends nothing until it was asked for symbols

    def decode(self, frame: Frame) -> Decoded:
        """The trades in one frame."""
        raise NotImplementedError

    def ask(self, url: str) -> str:
        """The URL to connect to, where the configured one leaves something to be asked for."""
        return url

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        """The texts to send after connecting, so that trades of `symbols` come."""
        return []

    def serves(self, host: str, path: str) -> bool:
        """Whether a URL of this host and path is known to be this exchange's."""
        return False


class Undecodable(ValueError):
    """A trade that cannot be decoded; the text says which field."""


def decode(exchange: Exchange, payload: bytes) -> Decoded:
    """Decode one frame. Never raises, whatever the bytes."""
    try:
        frame = json.loads(payload.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return Decoded([], [f"not JSON: {type(error).__name__}"])
    return exchange.decode(frame) if isinstance(frame, dict) else NOTHING


def plain(symbol: str) -> str:
    """A symbol as most exchanges write it: BTC/USD -> BTCUSD."""
    return "".join(c for c in symbol if c.isalnum()).upper()


def symbol_of(frame: Frame, key: str) -> str:
    value = frame.get(key, "")
    # JSON can spell half a surrogate pair, which is no text, and which no database takes
    if not isinstance(value, str) or len(value) > 64 or not value.isprintable():
        raise Undecodable(f"{key}: not a symbol")
    return value


def amount(frame: Frame, key: str) -> float:
    """A price or a size: a decimal text or a JSON number, finite and above zero."""
    value = frame.get(key)
    if isinstance(value, str):
        # float() is more generous than any exchange: "1_0", " 1", "infinity", digits of other scripts
        if not value.isascii() or "_" in value or value != value.strip():
            raise Undecodable(f"{key}: not a number")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise Undecodable(f"{key}: missing" if value is None else f"{key}: not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise Undecodable(f"{key}: not a number") from None
    if not 0 < number < float("inf"):
        raise Undecodable(f"{key}: not a positive number")
    return number


def id_of(frame: Frame, key: str) -> int | None:
    value = frame.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_INT:
        raise Undecodable(f"{key}: not a trade id")
    return value


def unix_ms(frame: Frame, key: str) -> int:
    value = frame.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_INT:
        raise Undecodable(f"{key}: not a time")
    return value // 1000 if value >= _MICROSECONDS else value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
