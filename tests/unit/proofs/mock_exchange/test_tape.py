"""What the mock exchange plays, without sockets: tapes, numbers, noise, frames, paths."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.mock_exchange.numbers import Numbers
from proofs.mock_exchange.protocols.base import GARBAGE_KINDS, ExchangeProtocol, Trade, UnknownPathError
from proofs.mock_exchange.protocols.registry import NOISE_OF, classify, open_protocol
from proofs.mock_exchange.protocols.subscription import plain_symbol
from proofs.mock_exchange.rules import Rules
from proofs.mock_exchange.tape import NoisePlan, TapeError, builtin_tape, random_walk, read_captures
from tests.support.exchange_client import trades_in

FRAMES = Path(__file__).resolve().parents[3] / "data" / "frames"
CAPTURES = sorted(FRAMES.glob("*.jsonl"))
TARGETS = [
    "/ws/btcusdt@trade",
    "/ws/btcusdt@aggTrade/ethusdt@trade?timeUnit=MICROSECOND",
    "/stream?streams=btcusdt@trade/ethusdt@aggTrade",
    "/v1/marketdata/btcusd?heartbeat=true&bids=true&offers=true&trades=true",
    "/v2/marketdata",
    "/gemini",
    "/coinbase",
    "/v2",
]
REQUESTS = [
    {"id": "1", "method": "subscribe", "params": ["btcusd@trade", "ethusd@trade"]},
    {"type": "subscribe", "product_ids": ["BTC-USD", "ETH-USD"], "channels": ["matches", "heartbeat"]},
    {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD"]}},
]
SUBSCRIBE = '{"type":"subscribe","subscriptions":[{"name":"l2","symbols":["BTCUSD","ETHUSD"]}]}'


def protocol_of(target: str) -> ExchangeProtocol:
    protocol = open_protocol(target)
    protocol.receive(SUBSCRIBE)
    for request in REQUESTS:
        protocol.receive(json.dumps(request))
    return protocol


def recorded_frames(path: Path) -> list[dict[str, Any]]:
    return [json.loads(json.loads(line)["frame"]) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_a_capture_is_played_whole_and_again_as_news(path: Path) -> None:
    tape = read_captures([path])
    news = [trade for frame in recorded_frames(path) for trade in trades_in(frame)]
    lap = len(tape.items)
    assert [(item.price, item.size) for item in tape.items] == [(one["price"], one["size"]) for one in news]
    assert tape.item(lap + 1).price == tape.item(1).price
    assert tape.at(lap + 1) > tape.at(lap)
    noise = sum(len(item.noise) for item in tape.items)
    ignored = sum(classify(frame) is None for frame in recorded_frames(path))
    assert noise + ignored + len(news) == len(recorded_frames(path))


@given(st.integers(1, 5000))
def test_recorded_times_never_go_back(number: int) -> None:
    for tape in (random_walk(7, 50), builtin_tape()):
        assert tape.at(number + 1) >= tape.at(number)


def test_a_snapshot_with_history_is_not_played() -> None:
    tape = read_captures([FRAMES / "gemini_v2.jsonl"])
    assert not any("trades" in frame for item in tape.items for _, frame in item.noise)
    assert any("trades" in frame for frame in recorded_frames(FRAMES / "gemini_v2.jsonl"))


def test_only_keeps_the_noise_of_what_it_leaves_out() -> None:
    tape = read_captures(CAPTURES)
    one = tape.only({"FILUSD"})
    assert one is not None
    assert {item.symbol for item in one.items} == {"FILUSD"}
    assert sum(len(item.noise) for item in one.items) == sum(len(item.noise) for item in tape.items)
    assert tape.only({"NOSUCH"}) is None


def test_made_up_trades_are_the_same_for_the_same_seed() -> None:
    assert random_walk(1) == random_walk(1)
    assert random_walk(1) != random_walk(2)


def test_a_capture_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    good = '{"received_at": 1, "frame": "{}"}\n'
    for bad in ("nonsense", "[]", '{"received_at": "x", "frame": "{}"}', '{"received_at": 1, "frame": "{"}'):
        path.write_text(good + bad)
        with pytest.raises(TapeError, match=r"x\.jsonl, line 2: not a captured frame"):
            read_captures([path])
    path.write_text(good)
    with pytest.raises(TapeError, match="no trade in"):
        read_captures([path])
    path.write_bytes(b"\xff")
    with pytest.raises(TapeError, match="not UTF-8"):
        read_captures([path])


@given(st.floats(0, 5, allow_nan=False), st.integers(1, 300), st.sampled_from(sorted(NOISE_OF)))
def test_noise_comes_at_its_rate_exactly(per_trade: float, trades: int, family: str) -> None:
    tape = builtin_tape()
    plan = NoisePlan(random_walk(1, 30), family, per_trade, tape)
    assert sum(len(plan.before(number)) for number in range(1, trades + 1)) == int(trades * per_trade)


@given(st.lists(st.tuples(st.sampled_from(["send", "fail", "lose", "total"]), st.integers(1, 5)), max_size=80))
def test_every_number_is_sent_once_whatever_fails(steps: list[tuple[str, int]]) -> None:
    """Sent or lost: each number once, in the end all of them, the lowest unsent one always next."""
    total = 40
    numbers, sent, lost = Numbers(total), list[int](), list[int]()
    for what, count in steps:
        if what == "total":
            total += count
            numbers.total = total
            continue
        taken = numbers.take(count)
        missing = sorted(set(range(1, total + 1)) - set(sent) - set(lost))
        assert taken == missing[: len(taken)]
        assert numbers.in_flight == len(taken)
        if what == "send":
            sent += taken
            numbers.confirm(len(taken))
        elif what == "lose":
            lost += taken
            numbers.lose(len(taken))
        else:
            numbers.give_back(taken)
        assert (numbers.in_flight, numbers.sent, numbers.lost) == (0, len(sent), len(lost))
    while taken := numbers.take(7):
        sent += taken
        numbers.confirm(len(taken))
    assert sorted(sent + lost) == list(range(1, total + 1))
    assert numbers.complete
    assert numbers.next is None


DECIMALS = st.decimals(min_value="0.00000001", max_value=10**6, places=8, allow_nan=False).map(lambda d: f"{d:f}")
TRADES = st.builds(
    Trade, st.integers(1, 10**9), st.integers(1, 2**53), st.just("X"), DECIMALS, DECIMALS,
    st.sampled_from(["buy", "sell"]), st.integers(1, 2**42),
)  # fmt: skip


@given(st.sampled_from(TARGETS), TRADES)
def test_a_frame_gives_back_the_trade_it_was_made_of(target: str, trade: Trade) -> None:
    protocol = protocol_of(target)
    (found,) = trades_in(json.loads(protocol.trades([trade])))
    assert found["id"] == trade.trade_id
    assert (float(found["price"]), float(found["size"])) == (float(trade.price), float(trade.size))
    assert plain_symbol(found["symbol"]) in ("", protocol.symbol_for(trade))
    assert protocol.symbol_for(replace(trade, symbol=protocol.symbols[-1])) == protocol.symbols[-1]


@given(st.sampled_from(TARGETS), st.sampled_from(GARBAGE_KINDS), TRADES)
def test_spoiled_frames_are_no_trades(target: str, kind: str, trade: Trade) -> None:
    text = protocol_of(target).garbage_frame(trade, kind)
    if kind == "not-json":
        with pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting"):
            json.loads(text)
        return
    price = next(iter(trades_in(json.loads(text))))["price"]
    assert price in (None, "", "NaN", "cheap", f"-{trade.price}")


@pytest.mark.parametrize("target", TARGETS)
def test_noise_is_json_and_never_a_trade(target: str) -> None:
    protocol = protocol_of(target)
    pool = builtin_tape().noise_of(NOISE_OF[protocol.family])
    said = [text for frame in pool if (text := protocol.noise(frame, 1_700_000_000_000)) is not None]
    assert len(said) > 10
    for text in said:
        assert not trades_in(json.loads(text))
    if protocol.family == "binance":
        bare = [frame for text in said if "e" not in (frame := json.loads(text)).get("data", frame)]
        assert bare  # bookTicker has no "e"
        assert all(json.loads(text).get("data", json.loads(text))["s"] == "BTCUSDT" for text in said)


def test_times_are_ms_or_us_as_asked() -> None:
    trade = Trade(1, 1, "X", "1", "1", "buy", 1_700_000_000_123)
    assert json.loads(open_protocol("/ws/a@trade").trades([trade]))["T"] == 1_700_000_000_123
    micro = open_protocol("/ws/a@trade?timeUnit=MICROSECOND")
    assert json.loads(micro.trades([trade]))["T"] == 1_700_000_000_123_000


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "null", '{"type":"subscribe"}', '{"type":"subscribe","subscriptions":[3]}', "\udcff"]
)
def test_gemini_v2_ignores_what_is_no_subscription(text: str) -> None:
    protocol = open_protocol("/v2/marketdata")
    assert protocol.receive(text) is False
    assert not protocol.wants_trades


def test_gemini_v2_takes_and_drops_symbols() -> None:
    protocol = open_protocol("/v2/marketdata")
    assert protocol.receive(SUBSCRIBE)
    assert not protocol.receive(SUBSCRIBE)
    assert protocol.symbols == ["BTCUSD", "ETHUSD"]
    protocol.receive(SUBSCRIBE.replace("subscribe", "unsubscribe", 1).replace(',"ETHUSD"', ""))
    assert protocol.symbols == ["ETHUSD"]


@given(st.text(max_size=40))
def test_no_path_breaks_it(path: str) -> None:
    try:
        protocol = open_protocol("/" + path)
    except (UnknownPathError, ValueError):
        return
    assert protocol.family in NOISE_OF


def test_rules_are_spent() -> None:
    rules = Rules()
    rules.set("http", {"status": 451}, 2)
    rules.set("hang", {}, None)
    assert [rules.take("http") for _ in range(3)] == [{"status": 451}, {"status": 451}, None]
    assert [rules.take("hang") for _ in range(3)] == [{}, {}, {}]
    rules.set("hang", {}, 0)
    assert rules.take("hang") is None
