"""What every exchange has in common: how a frame is read, and the checks its fields pass.

Most frames of a real connection are no trades; they are ignored. Unknown types are ignored too, as exchanges demand. A
frame that claims to be a trade and cannot be decoded is a rejection.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from hybrid_engine.domain.events import MarketTrade

MAX_INT = 2**63 - 1  # what a column of the store holds
# A Unix time above it is not in milliseconds (that would be the year 5138), or not in microseconds.
MICROSECONDS = 10**14
_NANOSECONDS = 10**17
_INFINITE = float("inf")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

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

    prints: Sequence[MarketTrade]
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

    def decode_run(self, messages: Sequence[bytes]) -> Sequence[Decoded] | None:
        """The same as `decode` makes of each, in fewer pieces; None where the exchange has no quicker way to it."""
        return None

    def ask(self, url: str) -> str:
        """The URL to connect to, where the configured one leaves something to be asked for."""
        return url

    def subscribe(self, symbols: Sequence[str]) -> list[str]:
        """The texts to send after connecting, so that trades of `symbols` come.

        Raises ValueError, with what to write instead, for a symbol that cannot be spelled as the exchange wants it.
        """
        return []

    def check(self, url: str, symbols: Sequence[str]) -> None:
        """Raise ValueError, with what to write instead, where `symbols` cannot be had from `url`."""
        self.subscribe(symbols)

    def named(self, url: str) -> list[str]:
        """The symbols that `url` itself asks for, spelled plainly; none where it does not say."""
        return []

    def serves(self, host: str, path: str) -> bool:
        """Whether a URL of this host and path is known to be this exchange's."""
        return False


class Undecodable(ValueError):
    """A trade that cannot be decoded; the text says which field."""


def decode(exchange: Exchange, payload: bytes) -> Decoded:
    """Decode one frame. Never raises, whatever the bytes."""
    try:
        frame = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # 1e400 and half a surrogate pair are JSON all the same: one field is odd then, not the frame.
        try:
            frame = _JSON.decode(payload.decode())
        except (ValueError, RecursionError) as error:
            return Decoded([], [f"not JSON: {type(error).__name__}"])
    return exchange.decode(frame) if type(frame) is dict else NOTHING


def plain(symbol: str) -> str:
    """A symbol as most exchanges write it: BTC/USD -> BTCUSD."""
    return "".join(c for c in symbol if c.isalnum()).upper()


def pair(symbol: str, separator: str) -> str:
    """A symbol with base and quote apart: BTC/USD -> BTC-USD. Raises ValueError where it cannot tell them apart."""
    parts = [plain(part) for part in re.split(r"[/_-]", symbol)]
    if len(parts) != 2 or not all(parts):
        raise ValueError(f'{json.dumps(symbol)}: base and quote must be told apart, as in "BTC/USD"')
    return separator.join(parts)


def symbol_of(frame: Frame, key: str) -> str:
    value = frame.get(key, "")
    # JSON can spell half a surrogate pair, which is no text, and which no database takes
    if not isinstance(value, str) or len(value) > 64 or not value.isprintable():
        raise Undecodable(f"{key}: not a symbol")
    return value


def amount(frame: Frame, key: str) -> float:
    """A price or a size: a decimal text or a JSON number, finite and above zero."""
    value = frame.get(key)
    if type(value) is str:
        # float() is more generous than any exchange: "1_0", " 1", "infinity", digits of other scripts
        if not value.isascii() or "_" in value or value != value.strip():
            raise Undecodable(f"{key}: not a number")
    elif type(value) is not float and type(value) is not int:
        raise Undecodable(f"{key}: missing" if value is None else f"{key}: not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise Undecodable(f"{key}: not a number") from None
    if not 0 < number < _INFINITE:
        raise Undecodable(f"{key}: not a positive number")
    return number


def id_of(frame: Frame, key: str) -> int | None:
    value = frame.get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_INT:
        raise Undecodable(f"{key}: not a trade id")
    return value


def number_of(frame: Frame, key: str) -> int | None:
    """A number that may be missing or odd without harm to the trade beside it."""
    value = frame.get(key)
    return value if type(value) is int and 0 <= value < MAX_INT else None


def unix_ms(frame: Frame, key: str) -> int:
    value = frame.get(key)
    if type(value) is not int or not 0 < value <= MAX_INT:
        raise Undecodable(f"{key}: not a time")
    if value < MICROSECONDS:
        return value
    return value // 1_000 if value < _NANOSECONDS else value // 1_000_000


def rfc3339_ms(frame: Frame, key: str) -> int:
    """The time in integer milliseconds, rounded down; computed in integers, for a float would lose some of them."""
    value = frame.get(key)
    try:
        time_ms = _rfc3339_ms(value)
        if time_ms <= 0:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise Undecodable(f"{key}: not a time") from None
    return time_ms


def _rfc3339_ms(text: Any) -> int:
    # fromisoformat takes more than RFC 3339: dates alone, weeks, no separators
    if not isinstance(text, str) or text[4:5] + text[7:8] + text[13:14] + text[16:17] != "--::":
        raise ValueError
    leap = 0
    if text[17:19] == "60":  # a leap second, which datetime does not know
        text, leap = f"{text[:17]}59{text[19:]}", 1000
    since = datetime.fromisoformat(text.upper()) - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000 + leap


def counted(symbol: str, number: int | None) -> tuple[Mark, ...]:
    """The mark of one trade whose id counts the trades of its symbol."""
    return (Mark(symbol, number, number, True),) if symbol and number is not None else ()


def known(frame: Frame, symbol_key: str, number_key: str) -> tuple[Mark, ...]:
    """The empty mark of a frame that tells of the newest trade and does not bring it. Odd ones tell nothing."""
    symbol, number = frame.get(symbol_key), number_of(frame, number_key)
    if not isinstance(symbol, str) or not symbol or not number:
        return ()
    return (Mark(symbol, number + 1, number, True),)


def refusal(*parts: object) -> str:
    """What an exchange says of why, short enough for a log line."""
    return ": ".join(["the exchange refused", *(str(part) for part in parts if part)])[:200]


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)
