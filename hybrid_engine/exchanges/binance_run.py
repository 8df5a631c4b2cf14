"""Runs of Binance trades whose frames are as the exchange documents them: decoded into types, all in one go.

A frame takes a fifth of the time that the general way takes (measured: 0.6 us against 2.5). Whatever is missing,
unknown or odd in any frame of a run is left to that way, so here a doubt is no complaint and needs no reason.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges.base import MAX_INT, MICROSECONDS, Decoded, Mark

_Number = Annotated[int, msgspec.Meta(ge=0, lt=MAX_INT)]
_Ms = Annotated[int, msgspec.Meta(gt=0, lt=MICROSECONDS)]
_IN_AMOUNTS = b"0123456789."
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


_one = msgspec.json.Decoder(_Trade | _AggTrade).decode
_combined = msgspec.json.Decoder(_Combined).decode


def decode_run(messages: Sequence[bytes]) -> list[Decoded] | None:
    """The trades of all frames, those with consecutive numbers in one piece; None unless every frame is such."""
    if not messages:
        return []
    try:
        if messages[0].startswith(b'{"stream"'):
            trades = [frame.data for frame in map(_combined, messages)]
        else:
            trades = list(map(_one, messages))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    prices, sizes = [trade.p for trade in trades], [trade.q for trade in trades]
    # float() is more generous than any exchange
    if ("".join(prices) + "".join(sizes)).encode().translate(None, _IN_AMOUNTS):
        return None
    try:
        price_of, size_of = list(map(float, prices)), list(map(float, sizes))
    except ValueError:
        return None
    if not (min(price_of) > 0 and min(size_of) > 0 and max(price_of) < _INFINITE and max(size_of) < _INFINITE):
        return None
    # A named tuple's own constructor takes twice as long, and the trades of a flood are all made here.
    prints = [
        tuple.__new__(MarketTrade, (trade.s, price, size, trade.number, trade.T))
        for trade, price, size in zip(trades, price_of, size_of, strict=True)
    ]
    found: list[Decoded] = []
    symbol, begun, first, due = "", 0, 0, -1
    for at, trade in enumerate(trades):
        if trade.first != due or trade.s != symbol:
            if at:
                found.append(_piece(prints[begun:at], symbol, first, due - 1))
            symbol, begun, first = trade.s, at, trade.first
            if not symbol or len(symbol) > 64 or not symbol.isprintable():
                return None
        due = trade.last + 1
        if due <= trade.first:
            return None
    found.append(_piece(prints[begun:], symbol, first, due - 1))
    return found


def _piece(prints: list[MarketTrade], symbol: str, first: int, last: int) -> Decoded:
    return tuple.__new__(Decoded, (prints, (), (tuple.__new__(Mark, (symbol, first, last, True)),), "", ""))
