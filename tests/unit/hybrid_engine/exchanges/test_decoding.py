"""Decoding of the frames in tests/exchanges, and what is true of every exchange's protocol."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from hybrid_engine.config.sources import guess_kind
from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import EXCHANGES, Decoded, Mark, decode
from tests.exchanges.table import KINDS, TABLES, put, text

FRAMES = Path(__file__).parents[3] / "data" / "frames"


def read(kind: str, frame: Any) -> Decoded:
    """The result of `kind` for a frame, in plain lists. Kind "auto", which goes by its shape, must give the same."""
    result = [decode(EXCHANGES[name], text(frame)) for name in (kind, "auto")]
    own, auto = map(expected, result)
    assert auto == own
    return own


def expected(decoded: Decoded) -> Decoded:
    """In plain lists."""
    trades, rejections, marks, close_notice, refusals, acknowledged, known, history = decoded
    return Decoded([*trades], [*rejections], [*marks], close_notice, [*refusals], [*acknowledged], known, [*history])


@pytest.mark.parametrize(
    ("kind", "frame", "item", "marks"), [(kind, *row) for kind in KINDS for row in TABLES[kind].trades]
)
def test_decodes_trade(kind: str, frame: str, item: MarketTrade, marks: list[Mark]) -> None:
    assert read(kind, frame) == expected(Decoded([item], [], marks))


@pytest.mark.parametrize(
    ("kind", "frame", "output"), [(kind, *row) for kind in KINDS for row in TABLES[kind].without_trades]
)
def test_decodes_frames_without_trades(kind: str, frame: object, output: Decoded) -> None:
    assert read(kind, frame) == expected(output)


COMMON: list[Any] = [[], '"trade"', 5, None, [[]]]


@pytest.mark.parametrize(("kind", "frame"), [(kind, frame) for kind in KINDS for frame in TABLES[kind].ignored])
def test_ignores_other_frames(kind: str, frame: object) -> None:
    assert read(kind, frame) == expected(Decoded([], []))


@pytest.mark.parametrize(
    ("kind", "frame"), [(kind, frame) for kind in KINDS for frame in [*TABLES[kind].unknown, *COMMON]]
)
def test_frame_of_no_known_type_is_told_apart(kind: str, frame: object) -> None:
    assert decode(EXCHANGES[kind], text(frame)) == Decoded(known=False)
    assert not decode(EXCHANGES["auto"], text(frame)).trades


# Anything with an error in it, in the words of whatever exchange or version.
NO = [
    ({"error": "no"}, "no"),
    ({"error": {"code": -1121, "msg": "Invalid symbol."}}, "-1121: Invalid symbol."),
    ({"errors": ["one", {"message": "two"}]}, "one: two"),
    ({"errorMessage": "Currency pair not supported"}, "Currency pair not supported"),
    ({"error_message": "x"}, "x"),
    ({"success": False}, "without a reason"),
    ({"status": "error", "message": "x"}, "x"),
    ({"status": "Error"}, "without a reason"),
    ({"status": 429}, "429"),
    ({"result": "error", "reason": "InvalidSymbol"}, "InvalidSymbol"),
    ({"event": "error", "msg": "x"}, "x"),
    ({"method": "error", "msg": "x"}, "x"),
    ({"type": "error", "message": "x", "reason": "y"}, "x: y"),
    ({"e": "error", "msg": "x"}, "x"),
    ({"type": "ERROR", "message": "x"}, "x"),
    ({"event": "Rejected", "reason": "x"}, "x"),
    ({"code": 4001, "message": "too many"}, "4001: too many"),
    ({"result": {"error": "inside"}}, "inside"),
    ({"error": "x" * 500}, "x" * 200),
]
YES = [
    {"error": None, "success": True},
    {"errors": [], "status": "ok"},
    {"code": 0, "msg": "success"},
    {"code": 200, "message": "OK"},
    {"code": "7"},
    {"status": 200},
    {"success": True},
    {"result": None, "id": 3},
    {"type": "error of somebody's, but not in these words"},
]


@pytest.mark.parametrize("kind", ["auto", *KINDS])
@pytest.mark.parametrize(("frame", "told"), NO)
def test_no_in_any_words_is_a_refusal(kind: str, frame: object, told: str) -> None:
    decoded = decode(EXCHANGES[kind], text(frame))
    assert [refusal.text for refusal in decoded.refusals] == [told]
    assert not decoded.trades


@pytest.mark.parametrize("kind", ["auto", *KINDS])
@pytest.mark.parametrize("frame", YES)
def test_yes_is_no_refusal(kind: str, frame: object) -> None:
    assert decode(EXCHANGES[kind], text(frame)).refusals == ()


@pytest.mark.parametrize(
    ("kind", "frame", "message"), [(kind, *row) for kind in KINDS for row in TABLES[kind].undecodable]
)
def test_undecodable_trade_rejected_with_reason(kind: str, frame: object, message: str) -> None:
    decoded = read(kind, frame)
    assert (decoded.trades, decoded.rejections) == ([], [message])


BAD = ["", " ", "0", "-1", "nan", "NaN", "inf", "Infinity", "1e999", "1e-999", "1_0", " 1", "1 ", "٣", "0x1", "x"]
BAD_JSON: list[Any] = [*BAD, None, True, [], {}, 0, -1, 0.0, 10**400]


@pytest.mark.parametrize("bad", BAD_JSON, ids=lambda bad: repr(bad)[:12])
@pytest.mark.parametrize("kind", KINDS)
def test_invalid_price_or_size_keeps_sequence_number(kind: str, bad: object) -> None:
    table = TABLES[kind]
    for name in (table.price, table.size):
        frame = json.loads(table.trades[0][0])
        assert put(frame, name, bad)
        decoded = read(kind, frame)
        assert [reason.partition(":")[0] for reason in decoded.rejections if reason.startswith(name)]
        assert (decoded.trades, decoded.marks) == ([], table.trades[0][2])


@pytest.mark.parametrize("kind", ["auto", *KINDS])
@pytest.mark.parametrize(
    "payload",
    [
        *[b"", b" ", b"nonsense", b"\xff\xfe", b'{"e":"trade",', b"NaN", b'{"p":Infinity}', b"{}{}", b"{} x"],
        *[b"[" * 99_999, b'{"a":' * 99_999, b'\xef\xbb\xbf{"e":"trade"}', b'{"t":' + b"9" * 5000 + b"}", b'{"p":"\n"}'],
    ],
    ids=lambda payload: repr(payload[:12]),
)
def test_invalid_json_rejected(kind: str, payload: bytes) -> None:
    decoded = decode(EXCHANGES[kind], payload)
    assert (decoded.trades, decoded.marks) == ([], ())
    assert [reason.partition(":")[0] for reason in decoded.rejections] == ["not JSON"]


@pytest.mark.parametrize("kind", KINDS)
def test_huge_frame_is_decoded(kind: str) -> None:
    frame = json.loads(TABLES[kind].trades[0][0])
    frame["padding"] = "x" * 16 * 1024 * 1024
    decoded = decode(EXCHANGES[kind], text(frame))
    assert list(decoded.trades) == [TABLES[kind].trades[0][1]]


@pytest.mark.parametrize(
    ("kind", "name", "trades"), [(kind, *row) for kind in KINDS for row in TABLES[kind].recorded.items()]
)
def test_recorded_frames_decode_to_their_trades(
    kind: str, name: str, trades: dict[str, tuple[int, float, int, float, int]]
) -> None:
    lines = (FRAMES / name).read_text().splitlines()
    results = [read(kind, json.loads(line)["frame"]) for line in lines]
    by_symbol: dict[str, list[MarketTrade]] = defaultdict(list)
    for item in (item for decoded in results for item in decoded.trades):
        by_symbol[item.symbol].append(item)
        assert 1_600_000_000_000 < item.exchange_ms < 1_800_000_000_000
    ends = {symbol: (len(p), p[0], p[-1]) for symbol, p in by_symbol.items()}
    assert {s: (n, a.price, a.exchange_id, b.price, b.exchange_id) for s, (n, a, b) in ends.items()} == trades
    assert [decoded for decoded in results if decoded.rejections or decoded.close_notice or decoded.refusals] == []
    # The excerpt must contain other frames as well, or the test shows little.
    assert len([decoded for decoded in results if not decoded.trades]) >= 10


def test_recorded_marks_have_no_gap() -> None:
    following: dict[str, int] = {}
    for line in (FRAMES / "coinbase.jsonl").read_text().splitlines():
        for mark in read("coinbase", json.loads(line)["frame"]).marks:
            assert following.get(mark.symbol, mark.first) == mark.first
            following[mark.symbol] = mark.last + 1
    assert following == {"SKL-BTC": 280240, "SKL-GBP": 82009, "NU-GBP": 563680}


@pytest.mark.parametrize("kind", KINDS)
def test_subscribe_messages_of_each_exchange(kind: str) -> None:
    messages = EXCHANGES[kind].subscribe_messages(["BTC/USD", "eth-usd"])
    assert [json.loads(message) for message in messages] == list(TABLES[kind].subscription)
    assert bool(messages) == EXCHANGES[kind].must_subscribe


@pytest.mark.parametrize(
    ("time", "ms"),
    [
        ("2021-04-17T16:43:30.001Z", 1618677810001),
        ("2021-04-17T16:43:30.0019999Z", 1618677810001),  # never the next one
        ("2021-04-17T16:43:30.123456789Z", 1618677810123),
        ("2021-04-17T16:43:30Z", 1618677810000),
        ("2021-04-17t16:43:30.5z", 1618677810500),
        ("2021-04-17T18:43:30.5+02:00", 1618677810500),
        ("2021-04-17 11:13:30.5-05:30", 1618677810500),
        ("2016-12-31T23:59:60.5Z", 1483228800500),  # a leap second
        ("1970-01-01T00:00:00.001Z", 1),
        ("9999-12-31T23:59:59.999999Z", 253402300799999),
        ("1970-01-01T00:00:00Z", None),
        ("1969-12-31T23:59:59Z", None),
        ("2021-04-17T16:43:30", None),  # no time zone
        ("2021-04-17", None),
        ("20210417T164330Z", None),
        ("2021-W15-6T16:43:30Z", None),
        ("2021-02-30T16:43:30Z", None),
        ("2021-04-17T24:43:30Z", None),
        ("2021-04-17T16:43:61Z", None),
        ("٢٠٢١-04-17T16:43:30Z", None),
        ("", None),
        (None, None),
        (1618677810, None),
        (["2021-04-17T16:43:30Z"], None),
    ],
)
def test_rfc3339_time_to_milliseconds(time: object, ms: int | None) -> None:
    frame = json.loads(TABLES["coinbase"].trades[0][0])
    decoded = read("coinbase", {**frame, "time": time})
    assert [item.exchange_ms for item in decoded.trades] == ([] if ms is None else [ms])
    assert decoded.rejections == (["time: not a time"] if ms is None else [])


def test_every_millisecond_is_exact() -> None:
    frame = json.loads(TABLES["coinbase"].trades[0][0])
    for ms in range(1000):
        (item,) = read("coinbase", {**frame, "time": f"2038-01-19T03:14:07.{ms:03}999Z"}).trades
        assert item.exchange_ms == 2147483647000 + ms


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("wss://stream.binance.com:9443/ws/btcusdt@trade", "binance"),
        ("wss://h/stream?streams=x", "binance"),
        ("wss://api.gemini.com/v1/marketdata/btcusd", "gemini_v1"),
        ("wss://api.gemini.com/v2/marketdata", "gemini_v2"),
        ("wss://ws.gemini.com", "gemini"),
        ("wss://WS.gemini.com/", "gemini"),
        ("wss://ws-feed.exchange.coinbase.com", "coinbase"),
        ("wss://ws.kraken.com/v2", "kraken"),
        ("ws://127.0.0.1:9001/coinbase", "coinbase"),
        ("wss://h/x", ""),
        ("wss://h", ""),
    ],
)
def test_guess_kind_by_url(url: str, kind: str) -> None:
    assert guess_kind(url) == kind
