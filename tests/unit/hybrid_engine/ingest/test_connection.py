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
from hybrid_engine.exchanges import EXCHANGES
from hybrid_engine.ingest.connection import Connection, ascii_url
from hybrid_engine.ingest.failure import EXCERPT, MAX_HOLD_S, SourceFailed, retry_after_s
from tests.support.process import wait_until
from tests.support.scripted_exchange import ScriptedExchange


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
        Connection(Source("s", url, "binance", (), 1, ""), ("BTC/USD",), timeout_s=60)
    assert str(caught.value) == f"answered HTTP {status[:3]}: hi"
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
            Connection(Source("s", url, "binance", (), 1, ""), ("BTC/USD",), timeout_s)
        except SourceFailed as error:
            failures.append(str(error))

    with server(b"HTTP/1.1 101 Yes\r\n", more) as url:
        thread = threading.Thread(target=connect, args=(url,), daemon=True)
        thread.start()
        thread.join(20)
        assert failures == ["answers the request without an end"]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("wss://me:secret@new.example/ws/x@trade?listenKey=abc", "wss://[redacted]@new.example/ws/x@trade?listenKey=["),
        ("/elsewhere", "answered HTTP 302: it sends to /elsewhere"),
        ("", "answered HTTP 302"),
    ],
)
def test_redirect_is_refused_with_its_target(location: str, reason: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    with server(head) as url, pytest.raises(SourceFailed) as caught:
        Connection(Source("s", url, "binance", (), 1, ""), ("BTC/USD",), timeout_s=8)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_reason_in_a_body_is_one_short_line() -> None:
    body = b'{"msg":\x1b[31m"no\r\nsuch  stream",\xff\xe2\x80\xae "see": "https://x.example/?token=abc"}' + b"x" * 4000
    with server(b"HTTP/1.1 400 Bad\r\n\r\n" + body) as url, pytest.raises(SourceFailed) as caught:
        Connection(Source("s", url, "binance", (), 1, ""), ("BTC/USD",), timeout_s=8)
    reason = str(caught.value)
    assert reason.startswith('answered HTTP 400: {"msg": [31m"no such stream"')
    assert reason.isprintable()
    assert "abc" not in reason
    assert len(reason) <= len("answered HTTP 400: ") + EXCERPT


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (1008, b"Pong timeout", "closed by the exchange (code 1008: Pong timeout)"),
        (1001, b"", "closed by the exchange (code 1001)"),
        (None, b"", "closed by the exchange (code 1005)"),
        (1013, b"\x1b[2Jtry\nlater", "closed by the exchange (code 1013: [2Jtry later)"),
        (1013, b"see wss://u:pw@h.example/", "(code 1013: see wss://[redacted]@h.example/)"),
    ],
)
def test_text_of_a_close_frame_is_told(code: int | None, text: bytes, reason: str) -> None:
    with ScriptedExchange() as exchange:
        connection = Connection(Source("s", exchange.url(), "binance", (), 1, ""), ("BTC/USD",), timeout_s=8)
        wait_until(lambda: exchange.connections, "its connection")
        exchange.connections[0].close(code, text)
        with pytest.raises(SourceFailed) as caught:
            wait_until(lambda: connection.read(0.1), "the close frame")
        connection.close()
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/ws/币安人生usdt@trade", "/ws/%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@trade"),
        ("/stream?streams=币usdt@trade/a@trade", "/stream?streams=%E5%B8%81usdt@trade/a@trade"),
        ("/ws/%E5%B8%81usdt@trade", "/ws/%E5%B8%81usdt@trade"),
        ("/ws/%E5%B8%81é@trade", "/ws/%E5%B8%81%C3%A9@trade"),
    ],
)
def test_request_line_is_ascii(written: str, sent: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}{written}"
        thread = threading.Thread(target=_connect_in_vain, args=(url,), daemon=True)
        thread.start()
        client, _ = listener.accept()
        with client:
            assert client.recv(65536).split(b"\r\n")[0] == f"GET {sent} HTTP/1.1".encode()
        thread.join()
    assert EXCHANGES["binance"].symbols_in_url(url)[0] in ("币安人生USDT", "币USDT", "币É")


def test_host_in_another_script_is_in_idna() -> None:
    assert ascii_url("wss://me@börse.example:9443/ws/a@trade") == "wss://me@xn--brse-5qa.example:9443/ws/a@trade"


def _connect_in_vain(url: str) -> None:
    with suppress(SourceFailed):
        Connection(Source("s", url, "binance", (), 1, ""), ("BTC/USD",), timeout_s=8)


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
