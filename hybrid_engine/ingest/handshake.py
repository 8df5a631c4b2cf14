"""How the head of an answer to the request for a WebSocket is read: that alone, and not for ever.

websocket-client waits for the body of an HTTP error before it says that there is one, and takes a head of any length in
any time. A slow body must not hold up the next source, and a head without an end not keep a thread for good.
"""

import socket
import time
from typing import cast

from websocket import WebSocketBadStatusException
from websocket import _handshake as library
from websocket._http import read_headers

from hybrid_engine.ingest.failure import SourceFailed

MAX_HEAD_BYTES = 64 * 1024


class _Head:
    """The socket for as long as the head is read, byte by byte as the library does; its time-out is for all of it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._left = MAX_HEAD_BYTES
        self._due = time.monotonic() + (sock.gettimeout() or 0.0)
        self.fileno, self.gettimeout = sock.fileno, sock.gettimeout

    def recv(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0 or time.monotonic() >= self._due:
            raise SourceFailed("answers the request without an end")
        return self._sock.recv(size)


def _status_alone(
    sock: socket.socket, success_statuses: tuple[int, ...] = library.SUCCESS_STATUSES
) -> tuple[int, dict[str, str]]:
    status, headers, message = read_headers(cast(socket.socket, _Head(sock)))
    if status not in success_statuses:
        raise WebSocketBadStatusException(f"{status} {message}", status, message, headers, None)
    return status, headers


def read_bounded_heads() -> None:
    """Have the library read heads so, from now on."""
    library._get_resp_headers = _status_alone
