"""The type of the tables of frames in this package, each named TABLE."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import EXCHANGES, Decoded, Mark, Refusal


@dataclass(frozen=True)
class Table:
    """Frames of one exchange: texts as they are sent, or objects where only the content matters.

    `trades`: frames with one trade each, the trade and its marks. `without_trades`: frames that decode to other things.
    `ignored`: frames that decode to nothing; `unknown`: those of no known type. `undecodable`: frames that claim to be
    a trade, with the start of the rejection. `price` and `size`: the names of these fields in the first trade.
    `subscription`: the messages for the symbols BTC/USD and ETH/USD. `recorded`: for each file of tests/data/frames its
    trades by symbol, as (count, first price, first id, last price, last id).
    """

    trades: Sequence[tuple[str, MarketTrade, Sequence[Mark]]]
    price: str
    size: str
    without_trades: Sequence[tuple[Any, Decoded]] = ()
    ignored: Sequence[Any] = ()
    unknown: Sequence[Any] = ()
    undecodable: Sequence[tuple[Any, str]] = ()
    subscription: Sequence[Any] = ()
    recorded: Mapping[str, Mapping[str, tuple[int, float, int, float, int]]] = field(default_factory=dict)


def refused(text: str, symbol: str = "") -> Decoded:
    return Decoded([], [], refusals=[Refusal(symbol, text)])


KINDS = [kind for kind in EXCHANGES if kind != "auto"]
TABLES: dict[str, Table] = {kind: import_module(f"tests.exchanges.{kind}").TABLE for kind in KINDS}


def text(frame: Any) -> bytes:
    return (frame if isinstance(frame, str) else json.dumps(frame)).encode()


def put(frame: Any, name: str, value: Any) -> int:
    """Set every field `name`, at any depth, to `value`. Returns how many there are."""
    count = 0
    for key, inner in list(frame.items() if isinstance(frame, dict) else enumerate(frame)):
        if key == name:
            frame[key], count = value, count + 1
        elif isinstance(inner, dict | list):
            count += put(inner, name, value)
    return count
