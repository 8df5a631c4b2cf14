"""Opening a connection: what a source answers decides, not how long it takes over the rest."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from hybrid_engine.ingest.connection import Connection
from hybrid_engine.ingest.failure import MAX_HOLD_S, SourceFailed, retry_after_s
from hybrid_engine.sources import Source


@contextmanager
def answering(head: bytes) -> Iterator[str]:
    """A server that answers every request with `head`, and then keeps the connection open without another word."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                held.append(client)
                client.recv(65536)
                client.sendall(head)

        threading.Thread(target=serve, daemon=True).start()
        yield f"ws://127.0.0.1:{server.getsockname()[1]}/ws/btcusdt@trade"
        server.shutdown(socket.SHUT_RDWR)
    for client in held:
        client.close()


@pytest.mark.parametrize(
    ("status", "hold_s"),
    [("401 Unauthorized", 0), ("403 No", 900), ("451 No", 900), ("418 Teapot", 7), ("429 Slow", 7), ("503 Later", 7)],
)
def test_a_refusal_is_taken_at_its_first_line(status: str, hold_s: float) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: 5000\r\nRetry-After: 7\r\n\r\nhi".encode()
    with answering(head) as url, pytest.raises(SourceFailed) as caught:
        # The time-out is long: whoever waits for the body meets pytest's patience, not this one.
        Connection(Source("s", url, "binance", (), 1, ""), "BTC/USD", timeout_s=60)
    assert str(caught.value) == f"answered HTTP {status[:3]}"
    assert caught.value.hold_s == hold_s


def test_a_retry_after_is_seconds_or_a_date_or_nothing() -> None:
    assert retry_after_s("120") == 120
    assert retry_after_s("999999") == MAX_HOLD_S
    soon = datetime.now(UTC) + timedelta(seconds=90)
    for text in (format_datetime(soon, usegmt=True), soon.strftime("%a, %d %b %Y %H:%M:%S")):
        left = retry_after_s(text)
        assert left is not None
        assert 85 < left <= 90
    for text in ("", "Wed, 21 Oct 2015 07:28:00 GMT", "-5", "1e9", "soon", "Wed, 99 Oct 2015 07:28:00 GMT", "²"):
        assert retry_after_s(text) is None
