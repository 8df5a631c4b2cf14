"""What the mock exchange is told while it runs, other than to misbehave: pace, totals, repeats, losses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from proofs.mock_exchange import ControlError, MockExchange
from tests.support.exchange_client import Client


@pytest.fixture
def exchange() -> Iterator[MockExchange]:
    with MockExchange(rate=200, noise=0.5, heartbeat=0.05, ping=0.1) as running:
        yield running


def test_pause_burst_resume_rate_and_count(exchange: MockExchange) -> None:
    exchange.command("pause")
    with Client(exchange.url()) as client:
        exchange.wait(subscribed=1)
        exchange.command("burst", n=25)
        client.read_until(lambda c: len(c.ids) == 25)
        assert exchange.stats()["sent"] == 25
        exchange.command("count", n=100)
        exchange.command("rate", rate=0)
        exchange.command("resume")
        client.read_until(lambda c: len(c.ids) == 100)
        stats = exchange.wait(complete=1)
        assert (stats["sent"], stats["next"], client.ids) == (100, None, list(range(1, 101)))
        exchange.command("count", n=110)
        client.read_until(lambda c: len(c.ids) == 110)


def test_repeat_sends_again_and_lose_leaves_out(exchange: MockExchange) -> None:
    exchange.command("pause")
    with Client(exchange.url("gemini_v1", "btcusd")) as client:
        exchange.wait(subscribed=1)
        exchange.command("burst", n=10)
        client.read_until(lambda c: len(c.ids) == 10)
        exchange.command("repeat", n=3)
        exchange.command("burst", n=3)
        client.read_until(lambda c: len(c.ids) == 13)
        assert client.ids[10:] == [8, 9, 10]
        exchange.command("lose", n=2)
        exchange.command("burst", n=5)
        client.read_until(lambda c: len(c.ids) == 16)
        assert client.ids[13:] == [13, 14, 15]
        numbers = [frame["socket_sequence"] for frame in client.parsed]
        assert sum(b - a - 1 for a, b in pairwise(numbers)) == 2
        stats = exchange.stats()
        assert (stats["sent"], stats["repeats"], stats["lost"]) == (13, 3, 2)


def test_after_a_stall_little_is_made_up_for(exchange: MockExchange) -> None:
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
    assert time.monotonic() - began > 0.15  # 60 at 200 a second are 0.3 s, of which 0.1 s may be made up for


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("explode", {}, "unknown command 'explode': expected one of abort"),
        ("close", {"cod": 1}, "unknown argument 'cod': expected code, reason"),
        ("close", {"code": "1001"}, "code = '1001': expected int"),
        ("http", {}, "needs status"),
        ("http", {"status": 999}, "not a known HTTP status"),
        ("silent", {"what": "music"}, "expected one of all, trades"),
        ("rate", {"rate": -1}, "expected 0 or more"),
        ("tls", {"cert": "a", "key": "b"}, "without a certificate"),
    ],
)
def test_wrong_commands_are_refused_by_name(
    exchange: MockExchange, name: str, args: dict[str, object], says: str
) -> None:
    with pytest.raises(ControlError, match=says):
        exchange.command(name, **args)
