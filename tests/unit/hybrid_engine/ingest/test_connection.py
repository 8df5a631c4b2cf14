"""Opening a connection: the status line decides, and an answer without an end fails."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from hybrid_engine.config.sources import Source
from hybrid_engine.ingest.connection import Connection
from hybrid_engine.ingest.failure import MAX_HOLD_S, SourceFailed, retry_after_s


@contextmanager
def server(head: bytes, more: bytes = b"") -> Iterator[str]:
    """A server that answers every request with `head`, and then sends `more` until the client is gone."""
    clients: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                clients.append(client)
                client.recv(65536)
                client.sendall(head)
                with suppress(OSError):
                    while more:
                        client.sendall(more)
                        time.sleep(0.01)

        threading.Thread(target=serve, daemon=True).start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/ws/btcusdt@trade"
        listener.shutdown(socket.SHUT_RDWR)
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    ("status", "hold_s"),
    [("401 Unauthorized", 0), ("403 No", 900), ("451 No", 900), ("418 Teapot", 7), ("429 Slow", 7), ("503 Later", 7)],
)
def test_refusal_does_not_wait_for_body(status: str, hold_s: float) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: 5000\r\nRetry-After: 7\r\n\r\nhi".encode()
    with server(head) as url, pytest.raises(SourceFailed) as caught:
        # The time-out is long: a client that waits for the body runs into the time-out of pytest.
        Connection(Source("s", url, "binance", (), 1, ""), "BTC/USD", timeout_s=60)
    assert str(caught.value) == f"answered HTTP {status[:3]}"
    assert caught.value.hold_s == hold_s


@pytest.mark.holds("BYTES")
@pytest.mark.parametrize(
    ("more", "timeout_s"),
    [(b"X-One: more\r\n", 0.3), (b"x", 0.3), (b"x" * 8192, 60), (b"X-One: more\r\n" * 999, 60)],
    ids=["slow lines", "slow line", "endless line", "endless lines"],
)
def test_endless_answer_fails_the_source(more: bytes, timeout_s: float) -> None:
    """Otherwise each attempt would occupy one more thread for good."""
    failures: list[str] = []

    def connect(url: str) -> None:
        try:
            Connection(Source("s", url, "binance", (), 1, ""), "BTC/USD", timeout_s)
        except SourceFailed as error:
            failures.append(str(error))

    with server(b"HTTP/1.1 101 Yes\r\n", more) as url:
        thread = threading.Thread(target=connect, args=(url,), daemon=True)
        thread.start()
        thread.join(20)
        assert failures == ["answers the request without an end"]


def test_retry_after_is_seconds_or_date() -> None:
    assert retry_after_s("120") == 120
    assert retry_after_s("999999") == MAX_HOLD_S
    soon = datetime.now(UTC) + timedelta(seconds=90)
    for text in (format_datetime(soon, usegmt=True), soon.strftime("%a, %d %b %Y %H:%M:%S")):
        remaining_s = retry_after_s(text)
        assert remaining_s is not None
        assert 85 < remaining_s <= 90
    for text in ("", "Wed, 21 Oct 2015 07:28:00 GMT", "-5", "1e9", "soon", "Wed, 99 Oct 2015 07:28:00 GMT", "²"):
        assert retry_after_s(text) is None
