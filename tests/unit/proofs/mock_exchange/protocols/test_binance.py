"""The Binance protocol: shape of a frame, time units, joined and combined streams."""

from __future__ import annotations

import json

from proofs.mock_exchange import MockExchange
from proofs.mock_exchange.protocols.base import Trade
from proofs.mock_exchange.protocols.registry import open_protocol
from tests.support.exchange_client import Client


def test_time_unit_is_ms_or_us() -> None:
    trade = Trade(1, 1, "X", "1", "1", "buy", 1_700_000_000_123)
    assert json.loads(open_protocol("/ws/a@trade").trades([trade]))["T"] == 1_700_000_000_123
    micro = open_protocol("/ws/a@trade?timeUnit=MICROSECOND")
    assert json.loads(micro.trades([trade]))["T"] == 1_700_000_000_123_000


def test_trade_frame_has_the_documented_shape() -> None:
    with MockExchange(count=1, rate=0, noise=0) as exchange, Client(exchange.url()) as client:
        client.read_until(lambda c: len(c.ids) == 1)
        frame = json.loads(client.frames[0])
    assert list(frame) == ["e", "E", "s", "t", "p", "q", "T", "m", "M"]
    assert isinstance(frame["p"], str)
    assert isinstance(frame["T"], int)
    assert frame["E"] > frame["T"]


def test_streams_share_the_trades_by_turns() -> None:
    with MockExchange(count=20, rate=0, noise=0) as exchange:
        url = f"ws://127.0.0.1:{exchange.port}/stream?streams=btcusdt@trade/ethusdt@aggTrade/btcusdt@bookTicker"
        with Client(url) as client:
            client.read_until(lambda c: len(c.ids) == 20)
        assert client.ids == list(range(1, 21))
        assert [frame["stream"] for frame in client.parsed[:2]] == ["btcusdt@trade", "ethusdt@aggTrade"]
        assert {frame["data"]["s"] for frame in client.parsed} == {"BTCUSDT", "ETHUSDT"}
        assert exchange.stats()["sent_by_symbol"] == {"BTCUSDT": 10, "ETHUSDT": 10}
