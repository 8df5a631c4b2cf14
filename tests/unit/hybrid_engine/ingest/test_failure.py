"""How long a source is left alone, by the HTTP answer that it gave."""

from __future__ import annotations

import pytest
from websocket import WebSocketBadStatusException

from hybrid_engine.ingest.failure import failure_of


@pytest.mark.holds("PACE")
@pytest.mark.parametrize(
    ("status", "asked", "hold_s"),
    [
        (429, "30", 30.0),
        (429, "3600", 3600.0),
        (418, "7200", 7200.0),
        (429, None, 60.0),
        (418, "soon", 60.0),
        (503, "45", 45.0),
        (503, None, 0.0),
        (500, "45", 0.0),
        (403, None, 900.0),
        (451, "10", 900.0),
        (451, "1000", 1000.0),
        (429, "99999999999", 259_200.0),
    ],
)
def test_pause_is_what_the_exchange_asks_for(status: int, asked: str | None, hold_s: float) -> None:
    headers = {} if asked is None else {"Retry-After": asked}
    error = WebSocketBadStatusException("Handshake status %s %s", status, "x", headers)
    failure = failure_of(error)
    assert failure.hold_s == hold_s
    assert str(failure) == f"answered HTTP {status}"
