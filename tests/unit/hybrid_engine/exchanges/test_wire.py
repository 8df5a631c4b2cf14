"""Frames on the wire: what is never negotiated, what is refused, and what comes in pieces."""

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
    """Takes one connection, keeps its request and the first messages it sends, and answers with `parts`."""

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
            found = re.search(rb"(?i)sec-websocket-key: (\S+)", self.request)
            assert found
            key = base64.b64encode(hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
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
                pass  # the engine has hung up

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


def read_all(connection: Connection, count: int) -> list[bytes]:
    """The next `count` messages. Raises SourceFailed."""
    messages: list[bytes] = []
    deadline = time.monotonic() + 20
    while len(messages) < count:
        assert time.monotonic() < deadline, f"{len(messages)} of {count} messages"
        messages += connection.read()
    return messages


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_asked_for_its_symbols_and_for_no_compression(kind: str) -> None:
    told = text(TABLES[kind].trades[0][0])
    with server(frame(1, told)) as (exchange, url):
        connection = Connection(source(url, kind), "X", 5)
        assert read_all(connection, 1) == [told]
        connection.close()
        exchange.thread.join(5)
    assert b"sec-websocket-extensions" not in exchange.request.lower()
    assert [json.loads(sent) for sent in exchange.heard] == list(TABLES[kind].subscribed)


@pytest.mark.parametrize("rsv", [1, 2, 4])
def test_a_reserved_bit_is_a_failed_source_whatever_the_exchange_claims(rsv: int) -> None:
    squeeze = zlib.compressobj(wbits=-15)
    packed = squeeze.compress(text(TABLES["binance"].trades[0][0])) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    claim = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    with server(frame(1, packed[:-4], rsv=rsv), header=claim) as (_, url), pytest.raises(SourceFailed) as caught:
        read_all(Connection(source(url, "binance"), "X", 5), 1)
    assert "rsv" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trade_in_many_pieces_is_a_trade(kind: str) -> None:
    told, item, _ = TABLES[kind].trades[0]
    whole = told.encode()
    pieces = [whole[n : n + 7] for n in range(0, len(whole), 7)]
    sent = [
        frame(0 if n else 1, piece, fin=n == len(pieces) - 1) + frame(9, b"still there?")
        for n, piece in enumerate(pieces)
    ]
    with server(*sent, frame(1, whole)) as (_, url):
        messages = read_all(Connection(source(url, kind), "X", 5), 2)
    assert messages == [whole, whole]
    assert list(decode(EXCHANGES[kind], messages[0]).trades) == [item]


def test_a_great_many_small_pieces_take_no_long_time() -> None:
    """Two bytes at a time behind three megabytes: who copies what it has for each of them takes minutes."""
    head, pieces = b'{"e":"x","y":"' + b"y" * 3 * 2**20, 50_000
    ending = frame(0, b"zz", fin=False) * pieces + frame(0, b'"}')
    used = -time.thread_time()
    with server(frame(1, head, fin=False), ending) as (_, url):
        (message,) = read_all(Connection(source(url, "binance"), "X", 5), 1)
    used += time.thread_time()
    assert message == head + b"zz" * pieces + b'"}'
    assert used < 2.5  # seconds of this thread's own; 0.3 at rest


def test_sixteen_megabytes_in_one_frame_are_refused_before_they_are_taken() -> None:
    with server(frame(1, b" " * 16 * 1024 * 1024)) as (_, url):
        connection = Connection(source(url, "binance"), "X", 5)
        with pytest.raises(SourceFailed) as caught:
            read_all(connection, 1)
        connection.close()
    assert str(caught.value) == f"sent a frame of {16 * 1024 * 1024} bytes; the limit is {MAX_MESSAGE_BYTES}"


def test_the_largest_frame_there_may_be_is_read() -> None:
    told = json.loads(TABLES["binance"].trades[0][0])
    size = MAX_MESSAGE_BYTES - len(text({**told, "padding": ""}))
    whole = text({**told, "padding": "x" * size})
    assert len(whole) == MAX_MESSAGE_BYTES
    with server(frame(1, whole)) as (_, url):
        (message,) = read_all(Connection(source(url, "binance"), "X", 5), 1)
    assert list(decode(EXCHANGES["binance"], message).trades) == [TABLES["binance"].trades[0][1]]


def test_what_is_no_utf8_is_one_rejected_frame_and_the_next_is_read() -> None:
    told, item, _ = TABLES["binance"].trades[0]
    with server(frame(1, b'{"e":"trade","s":"\xff\xfe"}'), frame(1, told.encode())) as (_, url):
        first, second = (
            decode(EXCHANGES["binance"], message) for message in read_all(Connection(source(url, "binance"), "X", 5), 2)
        )
    assert first.rejections == ["not JSON: UnicodeDecodeError"]
    assert list(second.trades) == [item]
