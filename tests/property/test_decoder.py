"""Any bytes decode to trades, to rejections, or to nothing, and the trades can be stored."""

from __future__ import annotations

import json
import sqlite3
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hybrid_engine.exchanges import EXCHANGES, Decoded, decode
from hybrid_engine.storage.schema import MIGRATIONS
from tests.exchanges.table import TABLES
from tests.support.decoded import check

FRAMES = Path(__file__).parents[1] / "data" / "frames"
REAL = [json.loads(line)["frame"] for path in sorted(FRAMES.glob("*.jsonl")) for line in path.read_text().splitlines()]
TEMPLATES: list[Any] = [
    frame if isinstance(frame, dict) else json.loads(frame)
    for table in TABLES.values()
    for frame in [*(row[0] for row in table.trades), *(row[0] for row in table.without_trades), *table.ignored]
]

strange = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "0", "-1", "1e999", "nan", "Infinity", "1_0", " 1", "٣", "1e-999", "0x1", "\ud800", "x" * 65]),
    st.sampled_from([0, -1, 10**14, 2**63 - 1, 2**63, 1.5, [], {}, [[]], {"stream": 1, "data": {}}]),
)
anything = st.recursive(
    strange, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A trade frame of one of the exchanges with a few values replaced or missing."""
    frame = json.loads(json.dumps(draw(st.sampled_from(TEMPLATES))))
    for _ in range(draw(st.integers(0, 3))):
        place: Any = frame
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            if isinstance(place, dict) and draw(st.booleans()):
                del place[key]
            else:
                place[key] = deepcopy(draw(anything))  # it may be changed in turn, and is drawn again
            break
    return json.dumps(frame).encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A recorded frame that is cut, repeated or has some bytes changed."""
    frame = draw(st.sampled_from(REAL)).encode()
    at = draw(st.integers(0, len(frame)))
    return bytes(frame[:at] + draw(st.binary(max_size=4)) + frame[at + draw(st.integers(0, 4)) :])


def check_stored(decoded: Decoded) -> None:
    """Store each trade."""
    with sqlite3.connect(":memory:") as con:
        con.executescript(MIGRATIONS[0])
        for number, item in enumerate(decoded.trades, 1):
            con.execute(
                "INSERT INTO ticks VALUES (?, 1, 'source', ?, ?, ?, ?, ?, 1)",
                (number, item.symbol, item.price, item.size, item.exchange_id, item.exchange_ms),
            )


@pytest.mark.holds("BYTES")
@pytest.mark.parametrize("name", EXCHANGES)
def test_any_bytes(name: str) -> None:
    @settings(max_examples=150)
    @given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode), spoiled(), spoiled(), damaged()))
    @example(b"")
    @example(b"[" * 100_000)
    @example(b'{"e":' * 100_000)
    @example(b'{"e":"trade","p":' + b"9" * 10_000 + b"}")
    @example(b'{"stream":"x@trade","data":{"stream":"x","data":{"stream":1,"data":{}}}}')
    @example(b'\xef\xbb\xbf{"e":"trade"}')
    @example(b'{"e":"trade","s":"\\ud800","p":"1","q":"1","T":1,"t":1}')
    @example(b'{"type":"trade","symbol":"\\udfff\\ud800","price":"1","quantity":"1","timestamp":1}')
    @example(b'{"type":"update","events":[1,null,[],{"type":"trade"}],"timestampms":1}')
    @example(b'{"type":"heartbeat","product_id":"X","last_trade_id":9223372036854775807}')
    @example(b'{"type":"update","socket_sequence":9223372036854775807}')
    @example(b'{"channel":"trade","type":"snapshot","data":[{"symbol":{},"trade_id":1}]}')
    @example(b'{"type":"match","time":"9999-12-31T23:59:60-23:59","price":1,"size":1}')
    def holds(payload: bytes) -> None:
        decoded = check(decode(EXCHANGES[name], payload))
        if decoded.trades:
            check_stored(decoded)

    holds()
