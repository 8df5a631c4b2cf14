"""The steps of a script, by count and by clock."""

from __future__ import annotations

from proofs.mock_exchange import MockExchange
from tests.support.exchange_client import Client


def test_step_by_clock() -> None:
    with MockExchange(rate=100, do=[{"command": "close", "after_s": 0.3, "code": 4001}]) as exchange:
        with Client(exchange.url()) as client:
            client.read_until(lambda c: False)
        assert client.close_code == 4001
