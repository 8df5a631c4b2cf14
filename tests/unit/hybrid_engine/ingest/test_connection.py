"""Opening a connection: what a source answers decides, not how long it takes over the rest."""

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
def answering(head: bytes, more: bytes = b"") -> Iterator[str]:
    """A server that answers every request with `head`, and then says `more` for as long as anybody listens."""
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
                with suppress(OSError):
                    while more:
                        client.sendall(more)
                        time.sleep(0.01)

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


@pytest.mark.holds("BYTES")
@pytest.mark.parametrize(
    ("more", "timeout_s"),
    [(b"X-One: more\r\n", 0.3), (b"x", 0.3), (b"x" * 8192, 60), (b"X-One: more\r\n" * 999, 60)],
    ids=["drops of lines", "drops of one line", "a line without an end", "lines without an end"],
)
def test_an_answer_without_an_end_is_a_failed_source(more: bytes, timeout_s: float) -> None:
    """Whoever connects must not be kept by it: each try would keep another thread."""
    failures: list[str] = []

    def connect(url: str) -> None:
        try:
            Connection(Source("s", url, "binance", (), 1, ""), "BTC/USD", timeout_s)
        except SourceFailed as error:
            failures.append(str(error))

    with answering(b"HTTP/1.1 101 Yes\r\n", more) as url:
        one = threading.Thread(target=connect, args=(url,), daemon=True)
        one.start()
        one.join(20)
        assert failures == ["answers the request without an end"]


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
