"""Every protocol of the registry: its frames hold the trades they were made of, its garbage and noise do not."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.mock_exchange.protocols import registry
from proofs.mock_exchange.protocols.base import (
    GARBAGE_KINDS,
    ExchangeProtocol,
    SubscriptionProtocol,
    Trade,
    UnknownPathError,
    plain_symbol,
)
from proofs.mock_exchange.protocols.registry import NOISE_OF, PATHS, PROTOCOLS, open_protocol
from proofs.mock_exchange.tape import builtin_tape
from tests.support.exchange_client import trades_in

CAPTURES = sorted((Path(__file__).resolve().parents[4] / "data" / "frames").glob("*.jsonl"))
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
SUBSCRIBE_V2 = '{"type":"subscribe","subscriptions":[{"name":"l2","symbols":["BTCUSD","ETHUSD"]}]}'


def protocol_of(target: str) -> ExchangeProtocol:
    protocol = open_protocol(target)
    protocol.receive(SUBSCRIBE_V2)
    for request in REQUESTS:
        protocol.receive(json.dumps(request))
    return protocol


DECIMALS = st.decimals(min_value="0.00000001", max_value=10**6, places=8, allow_nan=False).map(lambda d: f"{d:f}")
NUMBERS, SIDES = (st.integers(1, 10**9), st.integers(1, 2**53)), st.sampled_from(["buy", "sell"])
TRADES = st.builds(Trade, *NUMBERS, st.just("X"), DECIMALS, DECIMALS, SIDES, st.integers(1, 2**42))


@given(st.sampled_from(TARGETS), TRADES)
def test_frame_holds_its_trade(target: str, trade: Trade) -> None:
    protocol = protocol_of(target)
    (sent,) = trades_in(json.loads(protocol.trades([trade])))
    assert sent["id"] == trade.trade_id
    assert (float(sent["price"]), float(sent["size"])) == (float(trade.price), float(trade.size))
    assert plain_symbol(sent["symbol"]) in ("", protocol.symbol_for(trade))
    assert protocol.symbol_for(replace(trade, symbol=protocol.symbols[-1])) == protocol.symbols[-1]


@given(st.sampled_from(TARGETS), st.sampled_from(GARBAGE_KINDS), TRADES)
def test_garbage_is_no_trade(target: str, kind: str, trade: Trade) -> None:
    text = protocol_of(target).garbage_frame(trade, kind)
    if kind == "not-json":
        with pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting"):
            json.loads(text)
        return
    price = next(iter(trades_in(json.loads(text))))["price"]
    assert price in (None, "", "NaN", "cheap", f"-{trade.price}")


@pytest.mark.parametrize("target", TARGETS)
def test_noise_is_json_without_trades(target: str) -> None:
    protocol = protocol_of(target)
    pool = builtin_tape().noise_of(NOISE_OF[protocol.family])
    texts = [text for frame in pool if (text := protocol.noise(frame, 1_700_000_000_000)) is not None]
    assert len(texts) > 10
    for text in texts:
        assert not trades_in(json.loads(text))
    if protocol.family == "binance":
        bare = [frame for text in texts if "e" not in (frame := json.loads(text)).get("data", frame)]
        assert bare  # bookTicker has no "e"
        assert all(json.loads(text).get("data", json.loads(text))["s"] == "BTCUSDT" for text in texts)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.family)
def test_protocol_serves_its_own_paths(protocol: type[ExchangeProtocol]) -> None:
    for path in protocol.paths.values():
        assert type(open_protocol(path.format(s="btcusdt"))) is protocol


def test_registry_lists_every_protocol() -> None:
    folder = Path(registry.__file__).parent
    bases = {ExchangeProtocol, SubscriptionProtocol}
    classes = set[object]()
    for path in folder.glob("*.py"):
        module = importlib.import_module(f"proofs.mock_exchange.protocols.{path.stem}")
        classes |= {one for one in vars(module).values() if isinstance(one, type) and issubclass(one, ExchangeProtocol)}
    assert classes - bases == set(PROTOCOLS)
    assert len(PATHS) == sum(len(protocol.paths) for protocol in PROTOCOLS)  # no kind is listed twice
    assert set(NOISE_OF.values()) <= NOISE_OF.keys()


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_recorded_frames_belong_to_one_protocol(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        frame = json.loads(json.loads(line)["frame"])
        assert sum(protocol.parse_recorded(frame) is not None for protocol in PROTOCOLS) <= 1


@given(st.text(max_size=40))
def test_any_path_is_served_or_refused(path: str) -> None:
    try:
        protocol = open_protocol("/" + path)
    except (UnknownPathError, ValueError):
        return
    assert protocol.family in NOISE_OF
