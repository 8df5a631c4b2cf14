"""A running mock exchange for tests that send it commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proofs.mock_exchange import MockExchange


@pytest.fixture
def exchange() -> Iterator[MockExchange]:
    with MockExchange(rate=200, noise=0.5, heartbeat=0.05, ping=0.1) as running:
        yield running
