"""Frames on the wire: no extensions are negotiated, oversized frames are refused, fragments are joined."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hybrid_engine.config.sources import Source
from hybrid_engine.exchanges import EXCHANGES, decode
from hybrid_engine.ingest.connection import MAX_MESSAGE_BYTES, Connection
from hybrid_engine.ingest.failure import SourceFailed
from tests.exchanges.table import KINDS, TABLES, text

SYMBOLS = ("BTC/USD", "ETH/USD")


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload)
    if size < 126:
        return head + bytes([size]) + payload
    return head + (struct.pack(">BH", 126, size) if size < 2**16 else struct.pack(">BQ", 127, size)) + payload


class Server:
    """Accepts one connection, records its request and first messages, and sends `parts`."""

    def __init__(self, listener: socket.socket, parts: list[bytes], header: bytes) -> None:
        self.request = b""
        self.heard: list[str] = []
        self._listener, self._parts, self._header = listener, parts, header
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        peer, _ = self._listener.accept()
        with peer:
            while b"\r\n\r\n" not in self.request:
                self.request += peer.recv(4096)
            result = re.search(rb"(?i)sec-websocket-key: (\S+)", self.request)
            assert result
            key = base64.b64encode(hashlib.sha1(result[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            peer.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + self._header
                + b"Sec-WebSocket-Accept: "
                + key
                + b"\r\n\r\n"
            )
            try:
                for part in self._parts:
                    peer.sendall(part)
                stream = peer.makefile("rb")
                while head := stream.read(2):
                    self._hear(head, stream.read)
            except OSError:
                pass  # the engine has closed the connection

    def _hear(self, head: bytes, read: object) -> None:
        assert callable(read)
        size = head[1] & 0x7F
        size = int.from_bytes(read(2), "big") if size == 126 else size
        mask = read(4)
        payload = bytes(byte ^ mask[n % 4] for n, byte in enumerate(read(size)))
        if head[0] & 0x0F == 1:
            self.heard.append(payload.decode())


@contextmanager
def server(*parts: bytes, header: bytes = b"") -> Iterator[tuple[Server, str]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Server(listener, list(parts), header), f"ws://127.0.0.1:{listener.getsockname()[1]}/"


def source(url: str, kind: str) -> Source:
    return Source("s", url, kind, SYMBOLS if EXCHANGES[kind].must_subscribe else SYMBOLS[:1], 1, "")


def connect(to: Source) -> Connection:
    return Connection(to, to.watched_symbols("X"), 5)


def read_all(connection: Connection, count: int) -> list[bytes]:
    """The next `count` messages. Raises SourceFailed."""
    messages: list[bytes] = []
    deadline = time.monotonic() + 20
    while len(messages) < count:
        assert time.monotonic() < deadline, f"{len(messages)} of {count} messages"
        messages += connection.read()
    return messages


@pytest.mark.parametrize("kind", KINDS)
def test_handshake_subscribes_without_compression(kind: str) -> None:
    events = text(TABLES[kind].trades[0][0])
    with server(frame(1, events)) as (exchange, url):
        connection = connect(source(url, kind))
        assert read_all(connection, 1) == [events]
        connection.close()
        exchange.thread.join(5)
    assert b"sec-websocket-extensions" not in exchange.request.lower()
    assert [json.loads(sent) for sent in exchange.heard] == list(TABLES[kind].subscription)


@pytest.mark.parametrize("rsv", [1, 2, 4])
def test_reserved_bit_fails_source(rsv: int) -> None:
    squeeze = zlib.compressobj(wbits=-15)
    packed = squeeze.compress(text(TABLES["binance"].trades[0][0])) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    claim = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    with server(frame(1, packed[:-4], rsv=rsv), header=claim) as (_, url), pytest.raises(SourceFailed) as caught:
        read_all(connect(source(url, "binance")), 1)
    assert "rsv" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_fragmented_message_is_decoded(kind: str) -> None:
    events, item, _ = TABLES[kind].trades[0]
    whole = events.encode()
    pieces = [whole[n : n + 7] for n in range(0, len(whole), 7)]
    sent = [
        frame(0 if n else 1, piece, fin=n == len(pieces) - 1) + frame(9, b"still there?")
        for n, piece in enumerate(pieces)
    ]
    with server(*sent, frame(1, whole)) as (_, url):
        messages = read_all(connect(source(url, kind)), 2)
    assert messages == [whole, whole]
    assert list(decode(EXCHANGES[kind], messages[0]).trades) == [item]


def test_many_small_fragments_are_fast() -> None:
    """Fragments of two bytes behind three megabytes: copying all for each fragment would take minutes."""
    head, pieces = b'{"e":"x","y":"' + b"y" * 3 * 2**20, 50_000
    ending = frame(0, b"zz", fin=False) * pieces + frame(0, b'"}')
    used = -time.thread_time()
    with server(frame(1, head, fin=False), ending) as (_, url):
        (message,) = read_all(connect(source(url, "binance")), 1)
    used += time.thread_time()
    assert message == head + b"zz" * pieces + b'"}'
    assert used < 2.5  # CPU seconds of this thread; 0.3 on an idle machine


@pytest.mark.holds("MEMORY")
def test_oversized_frame_refused_before_reading() -> None:
    with server(frame(1, b" " * 16 * 1024 * 1024)) as (_, url):
        connection = connect(source(url, "binance"))
        with pytest.raises(SourceFailed) as caught:
            read_all(connection, 1)
        connection.close()
    assert str(caught.value) == f"sent a frame of {16 * 1024 * 1024} bytes; the limit is {MAX_MESSAGE_BYTES}"


@pytest.mark.holds("MEMORY")
def test_message_in_fragments_beyond_the_limit_fails_the_source() -> None:
    piece = frame(0, b" " * 2**20, fin=False)
    with server(frame(1, b" " * 2**20, fin=False), piece * 7) as (_, url):
        connection = connect(source(url, "binance"))
        with pytest.raises(SourceFailed) as caught:
            read_all(connection, 1)
        connection.close()
    assert str(caught.value) == f"sent a message in fragments beyond {4 * 1024 * 1024} bytes"


def test_largest_allowed_frame_is_read() -> None:
    events = json.loads(TABLES["binance"].trades[0][0])
    size = MAX_MESSAGE_BYTES - len(text({**events, "padding": ""}))
    whole = text({**events, "padding": "x" * size})
    assert len(whole) == MAX_MESSAGE_BYTES
    with server(frame(1, whole)) as (_, url):
        (message,) = read_all(connect(source(url, "binance")), 1)
    assert list(decode(EXCHANGES["binance"], message).trades) == [TABLES["binance"].trades[0][1]]


def test_invalid_utf8_rejects_one_frame() -> None:
    events, item, _ = TABLES["binance"].trades[0]
    with server(frame(1, b'{"e":"trade","s":"\xff\xfe"}'), frame(1, events.encode())) as (_, url):
        first, second = (
            decode(EXCHANGES["binance"], message) for message in read_all(connect(source(url, "binance")), 2)
        )
    assert first.rejections == ["not JSON: UnicodeDecodeError"]
    assert list(second.trades) == [item]
