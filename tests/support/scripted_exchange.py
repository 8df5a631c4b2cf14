"""A WebSocket server that sends exactly the messages a test passes to it, and answers pings by itself."""

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
    """A frame as a server sends it; `length` overrides the length in its header."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        return head + bytes([size]) + payload
    return head + (struct.pack(">BH", 126, size) if size < 2**16 else struct.pack(">BQ", 127, size)) + payload


def accept(peer: socket.socket) -> None:
    """Make the server's half of the handshake."""
    request = b""
    while b"\r\n\r\n" not in request:
        data = peer.recv(4096)
        if not data:
            raise ConnectionError("the client closed during its request")
        request += data
    key = re.search(rb"(?i)sec-websocket-key: (\S+)", request)
    assert key
    answer = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
    peer.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + answer + b"\r\n\r\n"
    )


def trade(number: int | None, symbol: str = "BTCUSDT") -> str:
    """A trade as Binance sends it."""
    body = {"e": "trade", "s": symbol, "t": number, "p": "10.5", "q": "1", "T": 1_700_000_000_000}
    return json.dumps({key: value for key, value in body.items() if value is not None})


class ScriptedConnection:
    """One connection of a client; a `mute` one answers no ping."""

    def __init__(self, sock: socket.socket, mute: bool) -> None:
        self._sock = sock
        self.open = True
        self.mute = mute
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, *texts: str) -> None:
        """Send the messages together."""
        self._sock.sendall(b"".join(frame(TEXT, text.encode()) for text in texts))

    def close(self, code: int | None = 1001, text: bytes = b"") -> None:
        with contextlib.suppress(OSError):
            self._sock.sendall(frame(CLOSE, (b"" if code is None else struct.pack(">H", code)) + text))
            self._sock.shutdown(socket.SHUT_WR)

    def _listen(self) -> None:
        data = b""
        with contextlib.suppress(OSError):
            while chunk := self._sock.recv(65536):
                data += chunk
                while len(data) >= 6 and len(data) >= 6 + (data[1] & 0x7F):
                    opcode, end = data[0] & 0xF, 6 + (data[1] & 0x7F)
                    body = bytes(byte ^ data[2 + n % 4] for n, byte in enumerate(data[6:end]))
                    data = data[end:]
                    if opcode == PING and not self.mute:
                        self._sock.sendall(frame(PONG, body))
        self.open = False
        self._sock.close()


class ScriptedExchange:
    """`connections`: all so far, in order; `attempts`: when each TCP connection was made (monotonic seconds).

    `refusal`: bytes to answer the next requests with instead of the handshake; `mute`: it answers no ping;
    `closes_at_once`: it closes each connection after the handshake; `handshake_s`: how long it waits before that.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.connections: list[ScriptedConnection] = []
        self.attempts: list[float] = []
        self.refusal = b""
        self.mute = self.closes_at_once = False
        self.handshake_s = 0.0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, stream: str = "btcusdt@trade") -> str:
        return f"ws://127.0.0.1:{self.port}/ws/{stream}"

    @property
    def open_connections(self) -> list[ScriptedConnection]:
        return [connection for connection in self.connections if connection.open]

    def send(self, *texts: str) -> None:
        """Send the messages to every open connection."""
        for connection in self.open_connections:
            with contextlib.suppress(OSError):
                connection.send(*texts)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._server.accept()
                self.attempts.append(time.monotonic())
                with contextlib.suppress(OSError):
                    if self._tls is not None:
                        sock = self._tls.wrap_socket(sock, server_side=True)
                    if self.refusal:
                        sock.recv(65536)
                        sock.sendall(self.refusal)
                        sock.close()
                        continue
                    time.sleep(self.handshake_s)
                    accept(sock)
                    if self.closes_at_once:
                        sock.sendall(frame(CLOSE, struct.pack(">H", 1001)))
                        sock.close()
                    else:
                        self.connections.append(ScriptedConnection(sock, self.mute))

    def stop(self) -> None:
        """Close the listening socket and every connection."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self.open_connections:
            connection.close()

    def __enter__(self) -> ScriptedExchange:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
