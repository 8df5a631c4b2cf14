"""Opening a connection: what a source answers decides, not how long it takes over the rest."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hybrid_engine.ingest.connection import Connection, SourceFailed
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


@pytest.mark.parametrize(("status", "hold_s"), [("401 Unauthorized", 0), ("451 No", 900), ("429 Slow", 7)])
def test_a_refusal_is_taken_at_its_first_line(status: str, hold_s: float) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: 5000\r\nRetry-After: 7\r\n\r\nhi".encode()
    with answering(head) as url, pytest.raises(SourceFailed) as caught:
        # The time-out is long: whoever waits for the body meets pytest's patience, not this one.
        Connection(Source("s", url, "binance", (), 1, ""), "BTC/USD", timeout_s=60)
    assert str(caught.value) == f"answered HTTP {status[:3]}"
    assert caught.value.hold_s == hold_s
