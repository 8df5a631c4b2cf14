"""Limits the size and the time of an exchange's answer to the WebSocket handshake.

websocket-client reads the body of an HTTP error before it reports the error, and accepts a header of any length in any
time. A slow body would delay the next source, and an endless header would occupy its thread for good.
"""

import socket
import time
from typing import cast

from websocket import WebSocketBadStatusException
from websocket import _handshake as library
from websocket._http import read_headers

from hybrid_engine.ingest.failure import SourceFailed

MAX_HEAD_BYTES = 64 * 1024


class _LimitedSocket:
    """Reads the header byte by byte, as the library does; the socket's time-out applies to all of it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._remaining = MAX_HEAD_BYTES
        self._deadline = time.monotonic() + (sock.gettimeout() or 0.0)
        self.fileno, self.gettimeout = sock.fileno, sock.gettimeout

    def recv(self, size: int) -> bytes:
        self._remaining -= size
        if self._remaining < 0 or time.monotonic() >= self._deadline:
            raise SourceFailed("answers the request without an end")
        return self._sock.recv(size)


def _read_headers(
    sock: socket.socket, success_statuses: tuple[int, ...] = library.SUCCESS_STATUSES
) -> tuple[int, dict[str, str]]:
    status, headers, message = read_headers(cast(socket.socket, _LimitedSocket(sock)))
    if status not in success_statuses:
        raise WebSocketBadStatusException(f"{status} {message}", status, message, headers, None)
    return status, headers


def limit_handshakes() -> None:
    """Replace the library's function for every later connection of this process."""
    library._get_resp_headers = _read_headers
