"""The pace of trades: a rate, recorded times, and no rush after a stall."""

from __future__ import annotations

import time
from pathlib import Path

from proofs.mock_exchange import MockExchange
from tests.support.exchange_client import Client

FRAMES = Path(__file__).resolve().parents[3] / "data" / "frames"


def test_rate_is_kept() -> None:
    """Two hundred trades at 200 a second take a second: not less, and on a busy machine not much more."""
    with MockExchange(count=200, rate=200, noise=0) as exchange:
        with Client(exchange.url()) as client:
            client.read_until(lambda c: len(c.ids) == 200)
        (connection,) = exchange.stats()["connections"]
    elapsed_ms = connection["last_sent_ms"] - connection["first_sent_ms"]
    assert 880 <= elapsed_ms <= 2500


def test_recorded_speed_times_a_factor() -> None:
    """The excerpt's sixteen trades span 23.3 s as recorded: forty times faster they take 0.58 s."""
    with MockExchange(captures=[str(FRAMES / "gemini_v2.jsonl")], count=16, speed=40) as exchange:
        with Client(exchange.url("binance")) as client:
            client.read_until(lambda c: len(c.ids) == 16)
        (connection,) = exchange.stats()["connections"]
    assert 470 <= connection["last_sent_ms"] - connection["first_sent_ms"] <= 2500


def test_little_is_caught_up_after_a_stall(exchange: MockExchange) -> None:
    """No client for a while: the next one gets the pace, not everything it missed at once."""
    with Client(exchange.url()) as client:
        client.read_until(lambda c: len(c.ids) > 5)
    exchange.wait(open=0)
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        exchange.stats(brief=True)
    sent = exchange.stats()["sent"]
    began = time.monotonic()
    with Client(exchange.url()) as again:
        again.read_until(lambda c: len(c.ids) == 60)
        assert again.ids[0] == sent + 1
    assert time.monotonic() - began > 0.15  # 60 at 200 a second are 0.3 s, of which 0.1 s may be caught up on
