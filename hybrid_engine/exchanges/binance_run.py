"""Binance's fast path: decodes a batch of frames at once, where all of them are exactly as the exchange documents them.

A frame takes a quarter of the time of the general decoder (measured: 0.6 us against 2.5). A batch with any frame in
which something is missing, unknown or odd is left to that decoder, so nothing here needs to say what is wrong.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges.base import MAX_INT, MICROSECONDS, Decoded, Mark

_Number = Annotated[int, msgspec.Meta(ge=0, lt=MAX_INT)]
_Ms = Annotated[int, msgspec.Meta(gt=0, lt=MICROSECONDS)]
_AMOUNT_CHARACTERS = b"0123456789."
_INFINITE = float("inf")


class _Fields(msgspec.Struct, tag_field="e", forbid_unknown_fields=True, gc=False, kw_only=True):
    E: int
    s: str
    p: str
    q: str
    T: _Ms
    m: bool
    M: bool


class _Trade(_Fields, tag="trade"):
    number: _Number = msgspec.field(name="t")

    @property
    def first(self) -> int:
        return self.number

    @property
    def last(self) -> int:
        return self.number


class _AggTrade(_Fields, tag="aggTrade"):
    number: _Number = msgspec.field(name="a")
    first: _Number = msgspec.field(name="f")
    last: _Number = msgspec.field(name="l")


class _Combined(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    stream: str
    data: _Trade | _AggTrade


_decode_raw = msgspec.json.Decoder(_Trade | _AggTrade).decode
_decode_combined = msgspec.json.Decoder(_Combined).decode


def decode_run(messages: Sequence[bytes]) -> list[Decoded] | None:
    """The trades of all frames, one Decoded for each run of consecutive numbers; None unless every frame fits."""
    if not messages:
        return []
    try:
        if messages[0].startswith(b'{"stream"'):
            frames = [message.data for message in map(_decode_combined, messages)]
        else:
            frames = list(map(_decode_raw, messages))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    price_texts, size_texts = [frame.p for frame in frames], [frame.q for frame in frames]
    # float() accepts more than any exchange sends: "1_0", " 1", "infinity".
    if ("".join(price_texts) + "".join(size_texts)).encode().translate(None, _AMOUNT_CHARACTERS):
        return None
    try:
        prices, sizes = list(map(float, price_texts)), list(map(float, size_texts))
    except ValueError:
        return None
    if not (min(prices) > 0 and min(sizes) > 0 and max(prices) < _INFINITE and max(sizes) < _INFINITE):
        return None
    # The named tuple's own constructor takes twice as long, and every trade of a flood is created here.
    trades = [
        tuple.__new__(MarketTrade, (frame.s, price, size, frame.number, frame.T))
        for frame, price, size in zip(frames, prices, sizes, strict=True)
    ]
    runs: list[Decoded] = []
    symbol, start, first, next_number = "", 0, 0, -1
    for at, frame in enumerate(frames):
        if frame.first != next_number or frame.s != symbol:
            if at:
                runs.append(_run(trades[start:at], symbol, first, next_number - 1))
            symbol, start, first = frame.s, at, frame.first
            if not symbol or len(symbol) > 64 or not symbol.isprintable():
                return None
        next_number = frame.last + 1
        if next_number <= frame.first:
            return None
    runs.append(_run(trades[start:], symbol, first, next_number - 1))
    return runs


def _run(trades: list[MarketTrade], symbol: str, first: int, last: int) -> Decoded:
    return tuple.__new__(Decoded, (trades, (), (tuple.__new__(Mark, (symbol, first, last, True)),), "", ""))
