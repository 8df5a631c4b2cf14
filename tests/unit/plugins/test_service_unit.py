"""Diffs show everything but secrets."""

from __future__ import annotations

import pytest

from tests.unit.plugins.loading import shared

service_unit = shared("service_unit")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('url = "wss://me:pw@example.org/ws"', 'url = "wss://***@example.org/ws"'),
        ('url = "wss://example.org/ws?a=1&token=abc&b=2"', 'url = "wss://example.org/ws?a=1&token=***&b=2"'),
        ('api_key = "abc"', "api_key = ***"),
        ('  exchange_secret = "abc"', "  exchange_secret = ***"),
        ('url = "wss://example.org/ws/btcusdt@trade"', 'url = "wss://example.org/ws/btcusdt@trade"'),
        ("heartbeat=true&trades=true", "heartbeat=true&trades=true"),
        ("KeyringMode=private", "KeyringMode=private"),
    ],
)
def test_only_secrets_are_masked(text: str, shown: str) -> None:
    assert service_unit.redacted(text) == shown
