"""An exchange that says, on real sockets, exactly what a test tells it, and answers pings by itself."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import ssl
import struct
import threading
import time
from types import TracebackType

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, length: int | None = None) -> bytes:
    """A frame as a server sends it; `length` lies about the payload's."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        return head + bytes([size]) + payload
    return head + (struct.pack(">BH", 126, size) if size < 2**16 else struct.pack(">BQ", 127, size)) + payload


def accept(peer: socket.socket) -> None:
    """The server's half of the handshake."""
    request = b""
    while b"\r\n\r\n" not in request:
        got = peer.recv(4096)
        if not got:
            raise ConnectionError("hung up in the middle of its request")
        request += got
    found = re.search(rb"(?i)sec-websocket-key: (\S+)", request)
    assert found
    answer = base64.b64encode(hashlib.sha1(found[1] + GUID).digest())
    peer.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + answer + b"\r\n\r\n"
    )


def trade(number: int | None, symbol: str = "BTCUSDT") -> str:
    """A trade as Binance sends it."""
    body = {"e": "trade", "s": symbol, "t": number, "p": "10.5", "q": "1", "T": 1_700_000_000_000}
    return json.dumps({key: value for key, value in body.items() if value is not None})


class Peer:
    """One connection of a client."""

    def __init__(self, sock: socket.socket, mute: bool) -> None:
        self._sock = sock
        self.open = True
        self.mute = mute  # answers no ping
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, *texts: str) -> None:
        """Send messages, all in one go."""
        self._sock.sendall(b"".join(frame(TEXT, text.encode()) for text in texts))

    def close(self, code: int = 1001) -> None:
        with contextlib.suppress(OSError):
            self._sock.sendall(frame(CLOSE, struct.pack(">H", code)))
            self._sock.shutdown(socket.SHUT_WR)

    def _listen(self) -> None:
        data = b""
        with contextlib.suppress(OSError):
            while got := self._sock.recv(65536):
                data += got
                while len(data) >= 6 and len(data) >= 6 + (data[1] & 0x7F):
                    opcode, end = data[0] & 0xF, 6 + (data[1] & 0x7F)
                    body = bytes(byte ^ data[2 + n % 4] for n, byte in enumerate(data[6:end]))
                    data = data[end:]
                    if opcode == PING and not self.mute:
                        self._sock.sendall(frame(PONG, body))
        self.open = False
        self._sock.close()


class Talker:
    """`peers`: every connection there was, in order; `tried`: when each was asked for (monotonic seconds).

    `answer`: bytes that refuse the next requests, instead of the handshake; `hang_up`: connections are closed as soon
    as they are made; `slow_s`: how long it takes over the handshake.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.peers: list[Peer] = []
        self.tried: list[float] = []
        self.answer = b""
        self.mute = self.hang_up = False
        self.slow_s = 0.0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, stream: str = "btcusdt@trade") -> str:
        return f"ws://127.0.0.1:{self.port}/ws/{stream}"

    @property
    def open(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.open]

    def say(self, *texts: str) -> None:
        """To everybody who is connected."""
        for peer in self.open:
            with contextlib.suppress(OSError):
                peer.say(*texts)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._server.accept()
                self.tried.append(time.monotonic())
                with contextlib.suppress(OSError):
                    if self._tls is not None:
                        sock = self._tls.wrap_socket(sock, server_side=True)
                    if self.answer:
                        sock.recv(65536)
                        sock.sendall(self.answer)
                        sock.close()
                        continue
                    time.sleep(self.slow_s)
                    accept(sock)
                    if self.hang_up:
                        sock.sendall(frame(CLOSE, struct.pack(">H", 1001)))
                        sock.close()
                    else:
                        self.peers.append(Peer(sock, self.mute))

    def stop(self) -> None:
        """Refuse whoever comes, and hang up."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for peer in self.open:
            peer.close()

    def __enter__(self) -> Talker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
