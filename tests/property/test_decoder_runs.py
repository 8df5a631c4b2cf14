"""Frames decoded as a batch give the same trades and marks as frames decoded one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from hybrid_engine.exchanges import EXCHANGES, Decoded, Mark, decode
from hybrid_engine.ingest.sequence_gaps import SequenceGap, SequenceGaps, SequenceTracker
from tests.exchanges.table import TABLES
from tests.property.test_decoder import damaged, spoiled
from tests.support.decoded import check

BINANCE = EXCHANGES["binance"]
TRADE, AGG, _, _, FUTURES = (frame for frame, _, _ in TABLES["binance"].trades[:5])
KINDS = {"trade": json.loads(TRADE), "aggTrade": json.loads(AGG), "futures": json.loads(FUTURES)}
amounts = st.one_of(
    st.from_regex(r"[0-9]{1,5}\.[0-9]{1,8}", fullmatch=True),
    st.sampled_from([*["0", "0.0", ".5", "5.", ".", "", "1.2.3", "1e5"], "+1", "-1", " 1", "1\n", "1_0", "nan", "٣"]),
    st.just("9" * 400),
)
odd = st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.integers(-(2**65), 2**65), st.just([]))


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Trades as an exchange sends them: mostly consecutive ids, sometimes a repetition, a leap or an invalid field."""
    combined, strange = draw(st.booleans()), draw(st.booleans())
    number = draw(st.integers(0, 50))
    result = []
    for _ in range(draw(st.integers(1, 12))):
        number = max(0, number + draw(st.sampled_from([1, 1, 1, 1, 1, 1, 0, 2, 7, -3])))
        kind = draw(st.sampled_from(["aggTrade"] * 6 + ["trade"] + ["futures"] * strange))
        change: dict[str, Any] = {
            "s": draw(st.sampled_from(["BTCUSDT"] * 5 + ["ETHUSDT"])),
            "p": draw(amounts) if strange and draw(st.integers(0, 9)) == 0 else "1.50",
            "q": draw(amounts) if strange and draw(st.integers(0, 9)) == 0 else "2",
        }
        if kind == "trade":
            change["t"] = number
        else:
            length = draw(st.sampled_from([0, 0, 0, 2, *[-1] * strange]))
            change |= {"a": number, "f": number, "l": number + length}
            number += max(0, length)
        frame = {**KINDS[kind], **change}
        if strange and draw(st.integers(0, 19)) == 0:
            key = draw(st.sampled_from([*frame, "new"]))
            frame[key] = draw(odd)
        if strange and draw(st.integers(0, 29)) == 0:
            del frame[draw(st.sampled_from(list(frame)))]
        whole: Any = {"stream": f"x@{kind}", "data": frame} if combined else frame
        result.append(json.dumps(whole, separators=(",", ":")).encode())
    return result


def left_out(before: Mark, marks: Sequence[Sequence[Mark]]) -> tuple[list[object], dict[bool, dict[str, int]]]:
    """The sequence gaps that these marks leave, and the next expected numbers."""
    numbers, holes = SequenceTracker(), SequenceGaps()
    numbers.observe([before])
    for of_message in marks:
        for symbol, first, last, _lasting, missing in numbers.observe(of_message):
            if not missing:
                holes.fill(symbol, first, last)
            else:
                holes.add(SequenceGap(symbol, "source", symbol, [(first, last)], 0, 0, 0.0))
    return [(hole.symbol, hole.ranges) for hole in holes.pop_expired(float("inf")) if hole.count], numbers._due


def same(messages: list[bytes]) -> bool:
    """Whether they were decoded as a batch. If so, the result is compared with that of single frames."""
    run = BINANCE.decode_run(messages)
    assert EXCHANGES["auto"].decode_run(messages) == run
    if run is None:
        return False
    each = [decode(BINANCE, message) for message in messages]
    assert [list(one.rejections) for one in each] == [[]] * len(each)
    assert [item for one in run for item in one.trades] == [item for one in each for item in one.trades]
    for one in run:
        assert check(one) == Decoded(one.trades, (), one.marks)
    before = Mark("BTCUSDT", 20, 20, True)
    assert left_out(before, [one.marks for one in run]) == left_out(before, [one.marks for one in each])
    return True


@pytest.mark.holds("BYTES", "MISSED")
@settings(max_examples=500)
@given(streams())
def test_stream_decodes_equally_both_ways(messages: list[bytes]) -> None:
    event(f"in one go: {same(messages)}")


@pytest.mark.holds("BYTES")
@pytest.mark.parametrize("field", ["p", "q"])
@pytest.mark.parametrize("amount", ["1_0", "1_0.5", "+1", "1e1", "Infinity", " 1", "1\n", "٣", "0x1", "1.2.3", "0"])
def test_amount_that_no_exchange_sends_is_not_taken_in_a_run(amount: str, field: str) -> None:
    messages = [TRADE.encode(), json.dumps({**KINDS["trade"], field: amount}, separators=(",", ":")).encode()]
    assert same([TRADE.encode()])
    assert not same(messages)


@pytest.mark.holds("BYTES")
@settings(max_examples=300)
@given(st.lists(st.one_of(spoiled(), damaged(), st.binary(max_size=30)), max_size=3))
@example([])
@example([b'{"e":"trade","e":"aggTrade"}'])
@example([TRADE.replace('"p":"43210.01000000"', '"p":1,"p":"2"').encode()])
@example([b'{"stream":"x@trade","data":' + TRADE.encode() + b',"data":1}'])
@example([TRADE.encode() + b"{}"])
@example([TRADE.encode() + b"\n" + TRADE.encode()])
def test_arbitrary_bytes_decode_equally_both_ways(messages: list[bytes]) -> None:
    same(messages)


@pytest.mark.parametrize("kind", ["trade", "aggTrade"])
@pytest.mark.parametrize(
    "change",
    [
        *[{"s": symbol} for symbol in ("", "\ud800", "BTC\nUSD", "x" * 65)],
        *[{name: amount} for name in "pq" for amount in ("0", "0.0", "9" * 400, "", ".", "1.2.3", "1e5", "nan", 1.5)],
        *[{name: number} for name in "tafl" for number in (-1, 1.0, 2**63 - 2, 2**63 - 1, 2**63, "7", None, True)],
        *[{"T": time} for time in (0, -1, 10**14 - 1, 10**14, 10**17, 2**63, 1.5, "1", None)],
        *[{"m": 1}, {"M": None}, {"E": "x"}, {"f": 101, "l": 100}, {"e": "depthUpdate"}, {"e": ["trade"]}],
        {"stream": "x@trade", "data": 1},
    ],
)
def test_one_odd_frame_falls_back(kind: str, change: dict[str, object]) -> None:
    fields = {name: value for name, value in change.items() if name in KINDS[kind] or name in ("stream", "data")}
    usual, odd = KINDS[kind], {**KINDS[kind], **fields}
    for frames in ([odd], [usual, odd], [odd, usual]):
        for wrapped in (frames, [{"stream": "btcusdt@x", "data": frame} for frame in frames]):
            same([json.dumps(frame).encode() for frame in wrapped])


def test_documented_frames_use_fast_path() -> None:
    for kind in ("trade", "aggTrade"):
        frames = []
        for number in range(100, 400):
            numbered = {"t": number} if kind == "trade" else {"a": number, "f": 2 * number, "l": 2 * number + 1}
            frames.append({**KINDS[kind], **numbered})
        for wrapped in (frames, [{"stream": "btcusdt@x", "data": frame} for frame in frames]):
            messages = [json.dumps(one, separators=(",", ":")).encode() for one in wrapped]
            assert same(messages)
            (run,) = BINANCE.decode_run(messages) or ()
            first, last = (100, 399) if kind == "trade" else (200, 799)
            assert list(run.marks) == [Mark("BTCUSDT", first, last, True)]
