"""The base of every exchange's protocol: how a frame is decoded, and the checks that its fields must pass.

Most frames of a real connection are not trades; they are ignored. Unknown types are ignored too, as exchanges demand. A
frame that claims to be a trade and cannot be decoded is rejected.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from hybrid_engine.domain.events import MarketTrade

MAX_INT = 2**63 - 1  # the largest integer that a column of the store can hold
# From here on a Unix time is in microseconds, or nanoseconds: as milliseconds it would be the year 5138.
MICROSECONDS = 10**14
_NANOSECONDS = 10**17
INFINITE = float("inf")
RENAMED = {"XBT": "BTC", "XDG": "DOGE"}  # by exchanges that take the other name
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Frame = dict[str, Any]


class Mark(NamedTuple):
    """The consecutive sequence numbers that a frame covers, so that a gap between two frames can be detected.

    With `symbol` "" they number all frames of the connection. `lasting`: the numbers continue on the next connection,
    as trade ids do; otherwise they restart. A mark may be empty (`last` is `first` - 1): history and heartbeats say in
    this way that the numbers below `first` exist, without delivering the trades.
    """

    symbol: str
    first: int
    last: int
    lasting: bool


class Refusal(NamedTuple):
    """What an exchange says that it will not do. `symbol`: the one that this is about, "" where it names none."""

    symbol: str
    text: str


class Decoded(NamedTuple):
    """The content of a frame: its trades in order, with the exchange's own symbol ("" where frames have none).

    `rejections`: for each trade that cannot be decoded, why. `close_notice`: why the exchange will close this
    connection soon, "" in all other frames. `acknowledged`: the symbols that it says it will send the trades of,
    `ALL` for those of the request. `known`: whether frames of this type are expected from this exchange. `history`:
    trades from before the subscription that the exchange sends of its own accord, in the order of their numbers.
    """

    trades: Sequence[MarketTrade] = ()
    rejections: Sequence[str] = ()
    marks: Sequence[Mark] = ()
    close_notice: str = ""
    refusals: Sequence[Refusal] = ()
    acknowledged: Sequence[str] = ()
    known: bool = True
    history: Sequence[MarketTrade] = ()


ALL = ("*",)  # as `Decoded.acknowledged`
UNKNOWN = Decoded(known=False)


class Exchange:
    """One exchange's protocol. An instance has no state: connections share it."""

    kind = ""  # its name in `ws_sources.toml`
    lifetime_s = 0.0  # after so many seconds the exchange closes a connection; 0: never
    must_subscribe = False  # it sends no trades before it gets a subscription, which it acknowledges
    answers_by_id = False  # an answer is to one request, whose id says of which symbol it was, if only of one
    answers_at_once = False  # one acknowledgement, or one refusal, is for everything that was asked for
    hosts: tuple[str, ...] = ()  # in the URLs of no other exchange
    domains: tuple[str, ...] = ()  # all of its hosts are in these
    paths = ""  # a regular expression for the beginning of a path that only it has; some are the mock exchange's

    def recognizes(self, frame: Frame) -> bool:
        """Whether a frame of unknown origin has the shape of this protocol (kind "auto", MOCK_WS only)."""
        return False

    def decode(self, frame: Frame) -> Decoded:
        """The trades in one frame."""
        raise NotImplementedError

    def decode_run(self, messages: Sequence[bytes]) -> Sequence[Decoded] | None:
        """The content of several frames, in fewer parts than one a frame; None where there is no fast path for them."""
        return None

    def connection_url(self, url: str) -> str:
        """The URL to connect to: the configured one, with what the exchange needs added."""
        return url

    def subscribe_messages(self, symbols: Sequence[str]) -> list[str]:
        """The messages to send after connecting, to subscribe to trades of `symbols`. Raises as `check_symbols`."""
        return []

    def owns(self, host: str) -> bool:
        """Whether that host is one of this exchange's."""
        return any(host == domain or host.endswith(f".{domain}") for domain in self.domains)

    def check_url(self, url: str) -> None:
        """Raises ValueError, with what to write instead, where nothing can come of `url`."""

    def check_symbols(self, url: str, symbols: Sequence[str]) -> None:
        """Raises ValueError, with what to write instead, where `url` cannot deliver `symbols`."""
        self.subscribe_messages(symbols)

    def symbols_in_url(self, url: str) -> list[str]:
        """The symbols that `url` itself asks for, normalized; none where it names none."""
        return []

    def serves(self, host: str, path: str) -> bool:
        """Whether a URL with this host and path is known to be this exchange's."""
        return host in self.hosts or bool(self.paths and re.match(self.paths, path))


class UndecodableError(ValueError):
    """A trade cannot be decoded; the text says which field and why."""


def decode(exchange: Exchange, payload: bytes) -> Decoded:
    """Decode one frame. Never raises, whatever the bytes."""
    try:
        frame = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # 1e400 and half a surrogate pair are valid JSON: then one field is wrong, not the whole frame.
        try:
            frame = _JSON.decode(payload.decode())
        except (ValueError, RecursionError) as error:
            return Decoded([], [f"not JSON: {type(error).__name__}"])
    if type(frame) is not dict:
        return UNKNOWN
    decoded = exchange.decode(frame)
    if not decoded.trades and not decoded.rejections and (refusal := read_refusal(frame)):
        return Decoded(refusals=(refusal,))
    return decoded


def normalize_symbol(symbol: str) -> str:
    """A symbol in capital letters and digits only, as most exchanges write it: BTC/USD -> BTCUSD."""
    return "".join(c for c in symbol if c.isalnum()).upper()


def split_pair(symbol: str, separator: str) -> str:
    """A symbol with `separator` between base and quote: BTC/USD -> BTC-USD. Raises ValueError without two parts."""
    parts = [normalize_symbol(part) for part in re.split(r"[/_-]", symbol)]
    if len(parts) != 2 or not all(parts):
        raise ValueError(f'{json.dumps(symbol)}: base and quote must be separate, as in "BTC/USD"')
    return separator.join(parts)


def check_name(symbol: str, in_url: str) -> None:
    """Raises ValueError where a symbol with base and quote cannot be a name of the one that a URL names."""
    base, separator, _ = re.sub(r"[/_-]", "/", symbol).partition("/")
    if separator and normalize_symbol(RENAMED.get(base.upper(), base)) not in in_url:
        raise ValueError(f"{json.dumps(symbol)} is not what the url names ({in_url})")


def read_symbol(frame: Frame, key: str) -> str:
    value = frame.get(key, "")
    # JSON can contain half a surrogate pair, which is not a valid text, and which no database stores.
    if not isinstance(value, str) or len(value) > 64 or not value.isprintable():
        raise UndecodableError(f"{key}: not a symbol")
    return value


def read_amount(frame: Frame, key: str) -> float:
    """A price or a size: a decimal text or a JSON number, finite and above zero."""
    value = frame.get(key)
    if type(value) is str:
        # float() accepts more than any exchange sends: "1_0", " 1", "infinity", digits of other scripts.
        if not value.isascii() or "_" in value or value != value.strip():
            raise UndecodableError(f"{key}: not a number")
    elif type(value) is not float and type(value) is not int:
        raise UndecodableError(f"{key}: missing" if value is None else f"{key}: not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise UndecodableError(f"{key}: not a number") from None
    if not 0 < number < INFINITE:
        raise UndecodableError(f"{key}: not a positive number")
    return number


def read_id(frame: Frame, key: str) -> int | None:
    value = frame.get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_INT:
        raise UndecodableError(f"{key}: not a trade id")
    return value


def read_number(frame: Frame, key: str) -> int | None:
    """A sequence number, or None where it is missing or invalid: the trade in the same frame is still good."""
    value = frame.get(key)
    return value if type(value) is int and 0 <= value < MAX_INT else None


def read_unix_ms(frame: Frame, key: str) -> int:
    value = frame.get(key)
    if type(value) is not int or not 0 < value <= MAX_INT:
        raise UndecodableError(f"{key}: not a time")
    if value < MICROSECONDS:
        return value
    return value // 1_000 if value < _NANOSECONDS else value // 1_000_000


def read_rfc3339_ms(frame: Frame, key: str) -> int:
    """The time in integer milliseconds, rounded down. Computed in integers: a float would lose some milliseconds."""
    text, leap = frame.get(key), 0
    try:
        # fromisoformat accepts more than RFC 3339: dates alone, weeks, no separators.
        if not isinstance(text, str) or text[4:5] + text[7:8] + text[13:14] + text[16:17] != "--::":
            raise ValueError
        if text[17:19] == "60":  # a leap second, which datetime does not know
            text, leap = f"{text[:17]}59{text[19:]}", 1000
        since = datetime.fromisoformat(text.upper()) - _EPOCH
        time_ms = since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000 + leap
        if time_ms <= 0:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise UndecodableError(f"{key}: not a time") from None
    return time_ms


class TradeFormat(NamedTuple):
    """The names that an exchange gives the fields of a trade; symbol "": frames name none.

    `rfc3339`: the time is such a text, and else a Unix time. `counted`: the ids count the trades of a symbol, so each
    trade has a mark, also where its other fields are invalid.
    """

    symbol: str
    price: str
    size: str
    id: str
    time: str
    rfc3339: bool = False
    counted: bool = False

    def decode(self, items: Any, where: str = "", timed: Frame | None = None) -> Decoded:
        """The trades in the list `items`, the field `where` of a frame; `timed`: what has their time, if not they."""
        if not isinstance(items, list):
            return Decoded([], [f"{where}: not a list"])
        read_ms = read_rfc3339_ms if self.rfc3339 else read_unix_ms
        trades: list[MarketTrade] = []
        rejections: list[str] = []
        marks: list[Mark] = []
        for item in items:
            if not isinstance(item, dict):
                rejections.append(f"{where}: not objects")
                continue
            try:
                symbol, number = read_symbol(item, self.symbol) if self.symbol else "", read_id(item, self.id)
                if self.counted and symbol and number is not None:
                    marks.append(Mark(symbol, number, number, True))
                price, size = read_amount(item, self.price), read_amount(item, self.size)
                trades.append(MarketTrade(symbol, price, size, number, read_ms(timed or item, self.time)))
            except UndecodableError as error:
                rejections.append(str(error))
        # No exchange promises that the trades of a message are in order: sorted, they fill each other's gaps.
        return Decoded(trades, rejections, sorted(marks))

    def decode_history(self, items: Any) -> list[MarketTrade]:
        """Those of `items` that are trades with a number, in the order of their numbers; what is none is left out."""
        trades = (trade for trade in self.decode(items).trades if trade.exchange_id is not None)
        return sorted(trades, key=attrgetter("exchange_id"))


def history_mark(frame: Frame, symbol_key: str, number_key: str) -> tuple[Mark, ...]:
    """The empty mark of a frame that names the newest trade without delivering it; none where a field is invalid."""
    symbol, number = frame.get(symbol_key), read_number(frame, number_key)
    if not isinstance(symbol, str) or not symbol or not number:
        return ()
    return (Mark(symbol, number + 1, number, True),)


# How the exchanges say no, each in words of its own: which fields tell, and which words in others.
_COMPLAINTS = ("error", "errors", "errorMessage", "error_message")
_STATES = ("status", "result", "type", "event", "method", "e")
_BAD_STATES = frozenset({"error", "failed", "failure", "rejected", "refused", "invalid"})
_TELLING = frozenset({*_COMPLAINTS, "success", "code", "status", "result"})
_EXPLANATIONS = ("code", "status", *_COMPLAINTS, "message", "msg", "reason")
_SYMBOL_KEYS = ("symbol", "pair", "product_id", "id")  # Gemini's requests have the name of their stream as their id
_HTTP_ERROR = 400


def read_refusal(frame: Frame) -> Refusal | None:
    """What a frame says no to, in whatever words; None where it does not."""
    states = [value.lower() for key in _STATES if type(value := frame.get(key)) is str]
    if frame.keys().isdisjoint(_TELLING) and _BAD_STATES.isdisjoint(states):
        return None
    code, status, result = frame.get("code"), frame.get("status"), frame.get("result")
    refused = (
        any(frame.get(key) for key in _COMPLAINTS)
        or frame.get("success") is False
        or not _BAD_STATES.isdisjoint(states)
        or (type(status) is int and status >= _HTTP_ERROR)
        or (type(code) is int and code not in (0, 200) and ("msg" in frame or "message" in frame))
    )
    if not refused:
        return read_refusal(result) if type(result) is dict else None
    symbol = next((value for key in _SYMBOL_KEYS if type(value := frame.get(key)) is str), "")
    texts = [_explain(frame.get(key)) for key in _EXPLANATIONS]
    said = ": ".join(dict.fromkeys(text for text in texts if text and text.lower() not in _BAD_STATES))
    return Refusal(symbol.partition("@")[0][:64], (said or "without a reason")[:200])


def _explain(value: Any) -> str:
    """A field of a refusal as text: of an object the values, of a list the items."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return ": ".join(text for item in value[:8] if (text := _explain(item)))
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)
