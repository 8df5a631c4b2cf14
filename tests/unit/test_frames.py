"""Frames as the exchanges send them, and what each is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hybrid_engine.ingest.exchanges import EXCHANGES, Decoded, decode
from hybrid_engine.model import Print

FRAMES = Path(__file__).parents[1] / "data" / "frames"
T = 1_700_000_000_123

BINANCE_TRADE = (
    f'{{"e":"trade","E":{T + 5},"s":"BTCUSDT","t":5012345678,"p":"43210.01000000","q":"0.00150000",'
    f'"T":{T},"m":true,"M":true}}'
)
AGG_TRADE = (
    f'{{"e":"aggTrade","E":{T + 5},"s":"BTCUSDT","a":77,"p":"1.5","q":"2","f":100,"l":105,"T":{T},"m":false,"M":true}}'
)
V1_TRADE = {"type": "trade", "tid": 5335307668, "price": "3788.11", "amount": "0.00207", "makerSide": "bid"}
V1_CHANGE = {"type": "change", "side": "ask", "price": "3788.12", "remaining": "1", "delta": "-1", "reason": "trade"}


def v1(*events: object, **more: object) -> str:
    return json.dumps(
        {"type": "update", "eventId": 1, "timestampms": T, "socket_sequence": 3, "events": events, **more}
    )


V2_TRADE = {
    "type": "trade",
    "symbol": "BTCUSD",
    "event_id": 169841458,
    "timestamp": T,
    "price": "53.5",
    "quantity": "0.1",
}

ONE = [
    ("binance", BINANCE_TRADE, Print("BTCUSDT", 43210.01, 0.0015, 5012345678, T)),
    ("binance", AGG_TRADE, Print("BTCUSDT", 1.5, 2.0, 77, T)),  # its own number, not those of the trades in it
    (
        "binance",
        f'{{"stream":"btcusdt@trade","data":{BINANCE_TRADE}}}',
        Print("BTCUSDT", 43210.01, 0.0015, 5012345678, T),
    ),
    ("binance", f'{{"stream":"btcusdt@aggTrade","data":{AGG_TRADE}}}', Print("BTCUSDT", 1.5, 2.0, 77, T)),
    ("gemini_v1", v1(V1_CHANGE, V1_TRADE), Print("", 3788.11, 0.00207, 5335307668, T)),
    ("gemini_v2", json.dumps(V2_TRADE), Print("BTCUSD", 53.5, 0.1, 169841458, T)),
]


@pytest.mark.parametrize(("kind", "frame", "wanted"), ONE)
def test_a_trade(kind: str, frame: str, wanted: Print) -> None:
    assert decode(EXCHANGES[kind], frame.encode()) == Decoded([wanted], [])
    assert decode(EXCHANGES["auto"], frame.encode()) == Decoded([wanted], [])


def test_microseconds_are_read_as_milliseconds() -> None:
    frame = json.loads(BINANCE_TRADE)
    (item,) = decode(EXCHANGES["binance"], json.dumps({**frame, "T": T * 1000 + 999}).encode()).prints
    assert item.exchange_ms == T
    del frame["T"]
    (item,) = decode(EXCHANGES["binance"], json.dumps(frame).encode()).prints
    assert item.exchange_ms == T + 5  # the event's time, where the trade's is missing


def test_numbers_and_a_missing_id_are_taken() -> None:
    frame = {**V2_TRADE, "price": 53.5, "quantity": 1}
    del frame["event_id"]
    assert decode(EXCHANGES["gemini_v2"], json.dumps(frame).encode()).prints == [Print("BTCUSD", 53.5, 1.0, None, T)]


IGNORED: list[tuple[str, Any]] = [
    ("binance", {"e": "depthUpdate", "s": "X"}),
    ("binance", {"u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "1", "A": "1"}),  # bookTicker has no `e`
    ("binance", {"e": "serverShutdown", "E": T}),
    ("binance", {"result": None, "id": 1}),
    ("binance", {"stream": "x@bookTicker", "data": [1]}),
    ("binance", {"e": ["trade"]}),
    ("binance", {"s": "BTCUSDT", "t": 1, "p": "1", "q": "1", "E": T}),  # a trade of Gemini's new endpoint: no `e`
    ("binance", {}),
    ("binance", []),
    ("binance", "trade"),
    ("binance", 5),
    ("binance", None),
    ("gemini_v1", {"type": "heartbeat", "timestampms": T, "sequence": 1, "socket_sequence": 1}),
    ("gemini_v1", {"type": "update", "timestampms": T, "events": []}),
    ("gemini_v1", {"type": "update", "timestampms": T, "events": [V1_CHANGE]}),
    ("gemini_v1", {"type": "update", "events": [{"type": "auction_open"}]}),  # no time, and nothing that needs one
    ("gemini_v2", {"type": "heartbeat", "timestamp": T}),
    ("gemini_v2", {"type": "l2_updates", "symbol": "BTCUSD", "changes": [], "trades": [V2_TRADE, V2_TRADE]}),  # history
    ("gemini_v2", {"type": "candles_1m_updates"}),
    ("gemini_v2", {"type": "something_new"}),
]


@pytest.mark.parametrize(("kind", "frame"), IGNORED)
def test_what_is_no_trade_costs_nothing(kind: str, frame: object) -> None:
    assert decode(EXCHANGES[kind], json.dumps(frame).encode()) == Decoded([], [])
    assert decode(EXCHANGES["auto"], json.dumps(frame).encode()) == Decoded([], [])


BAD_AMOUNTS = [
    "",
    " ",
    "0",
    "-1",
    "nan",
    "NaN",
    "inf",
    "Infinity",
    "1e999",
    "1e-999",
    "1_0",
    " 1",
    "1 ",
    "٣",
    "0x1",
    "x",
]
BAD_AMOUNTS_JSON: list[Any] = [*BAD_AMOUNTS, None, True, [], {}, 0, -1, 0.0, 10**400]


@pytest.mark.parametrize("bad", BAD_AMOUNTS_JSON, ids=lambda bad: repr(bad)[:12])
@pytest.mark.parametrize("field", ["p", "q"])
def test_a_trade_without_a_price_or_a_size_is_rejected_and_says_so(field: str, bad: object) -> None:
    frame = {**json.loads(BINANCE_TRADE), field: bad}
    decoded = decode(EXCHANGES["binance"], json.dumps(frame).encode())
    assert decoded.prints == []
    assert [reason.partition(":")[0] for reason in decoded.rejections] == [field]


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        ("binance", {**json.loads(BINANCE_TRADE), "T": 0}),
        ("binance", {**json.loads(BINANCE_TRADE), "T": "soon"}),
        ("binance", {**json.loads(BINANCE_TRADE), "T": 2**63}),
        ("binance", {**json.loads(BINANCE_TRADE), "t": -1}),
        ("binance", {**json.loads(BINANCE_TRADE), "t": 2**63}),
        ("binance", {**json.loads(BINANCE_TRADE), "t": "7"}),
        ("binance", {**json.loads(BINANCE_TRADE), "s": 7}),
        ("binance", {**json.loads(BINANCE_TRADE), "s": "x" * 65}),
        ("binance", {**json.loads(BINANCE_TRADE), "s": "BTC\nUSD"}),
        ("binance", {**json.loads(BINANCE_TRADE), "s": "\ud800"}),  # half a surrogate pair: no database takes it
        ("binance", {"stream": "btcusdt@trade", "data": None}),
        ("gemini_v1", {"type": "update", "timestampms": T, "events": {}}),
        ("gemini_v1", {"type": "update", "timestampms": None, "events": [V1_TRADE]}),
        ("gemini_v2", {**V2_TRADE, "timestamp": None}),
    ],
)
def test_other_broken_trades_are_rejected_once(kind: str, frame: object) -> None:
    decoded = decode(EXCHANGES[kind], json.dumps(frame).encode())
    assert (len(decoded.prints), len(decoded.rejections)) == (0, 1)


@pytest.mark.parametrize(
    "payload", [b"", b"nonsense", b"\xff\xfe", b'{"e":"trade",', b"NaN", b'{"p":Infinity}', b"[" * 99_999]
)
def test_what_is_no_json_is_rejected(payload: bytes) -> None:
    decoded = decode(EXCHANGES["binance"], payload)
    assert decoded.prints == []
    assert decoded.rejections[0].startswith("not JSON")


def test_one_message_may_hold_good_trades_and_bad_ones_in_order() -> None:
    frame = v1({**V1_TRADE, "tid": 1}, {**V1_TRADE, "price": ""}, 7, V1_CHANGE, {**V1_TRADE, "tid": 2})
    decoded = decode(EXCHANGES["gemini_v1"], frame.encode())
    assert [item.exchange_id for item in decoded.prints] == [1, 2]
    assert decoded.rejections == ["price: not a number", "events: not objects"]


def recorded(name: str) -> list[str]:
    return [json.loads(line)["frame"] for line in (FRAMES / name).read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("binance_spot.jsonl", "binance"), ("binance_futures.jsonl", "binance"), ("gemini_v2.jsonl", "gemini_v2")],
)
def test_recorded_frames_give_their_trades_and_nothing_else(name: str, kind: str) -> None:
    wanted: list[tuple[str, int]] = []
    kinds: Counter[str] = Counter()
    for text in recorded(name):
        frame = json.loads(text)
        data = frame.get("data", frame)
        what = str(data.get("e") or data.get("type"))
        kinds[what] += 1
        if what == "trade":
            wanted.append((data.get("s") or data["symbol"], data["t"] if "t" in data else data["event_id"]))
        elif what == "aggTrade":
            wanted.append((data["s"], data["a"]))
    got = [decode(EXCHANGES[kind], text.encode()) for text in recorded(name)]
    assert [(p.symbol, p.exchange_id) for decoded in got for p in decoded.prints] == wanted
    assert [reason for decoded in got for reason in decoded.rejections] == []
    # The excerpt must hold trades and noise, or this shows nothing.
    assert len(wanted) >= 2
    assert len(kinds) >= 2
    times = [p.exchange_ms for decoded in got for p in decoded.prints]
    assert all(1_600_000_000_000 < t < 1_800_000_000_000 for t in times)
