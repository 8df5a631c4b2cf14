"""One WebSocket connection to one source: opens it, reads the messages that are there, detects that it is dead.

Built on websocket-client. Its frame buffer is replaced by one that reads ahead. This limits the size of a frame, which
the library does not, and shows when the socket is empty, so that all messages that are there are returned together.
Opening blocks; reading an open connection does not, so that one thread can read many.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import cast
from urllib.parse import quote, urlsplit, urlunsplit

import websocket
from websocket import ABNF, WebSocketException
from websocket import _handshake as handshake
from websocket._abnf import frame_buffer
from websocket._http import read_headers
from websocket._url import parse_url

from hybrid_engine.config.sources import Source
from hybrid_engine.ingest.dial import dial
from hybrid_engine.ingest.failure import SourceDead, SourceFailed, excerpt, failure_of
from hybrid_engine.stages.channel import HEARTBEAT_S

# A hundred times the largest message seen from an exchange. Decoding JSON of the worst kind needs 40 times its size
# (measured: 150 MB, 2 s); the unit's memory limit and the watchdog allow for that.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
READ_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024  # of the answer to a handshake
# Of the body of one that refuses, which is read for its reason: how much, and for how long.
BODY_BYTES, BODY_S = 1024, 0.5
_SAFE = "/%:@!$&'()*+,;=?~-._[]"  # of a URL: what stays as it is
_SINGLE_FRAME = (0x81, 0x82)  # first byte of a message in one frame: text, binary


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
    sock: socket.socket, success_statuses: tuple[int, ...] = handshake.SUCCESS_STATUSES
) -> tuple[int, dict[str, str]]:
    """Limit the size and the time of an exchange's answer to the handshake.

    The library reads the body of an HTTP error before it reports the error, and accepts a header of any length in any
    time. A slow body would delay the next source, and an endless header would occupy its thread for good. It says
    nothing of where a redirect leads.
    """
    status, headers, message = read_headers(cast(socket.socket, _LimitedSocket(sock)))
    if status != HTTPStatus.SWITCHING_PROTOCOLS:
        body = _read_body(sock)
        raise websocket.WebSocketBadStatusException(f"{status} {message}", status, message, headers, body)
    return status, headers


def _read_body(sock: socket.socket) -> bytes:
    """The beginning of an answer's body: what comes of it within BODY_S."""
    body, deadline = b"", time.monotonic() + BODY_S
    with suppress(OSError):
        while len(body) < BODY_BYTES and (left_s := deadline - time.monotonic()) > 0:
            sock.settimeout(left_s)
            chunk = sock.recv(BODY_BYTES)
            if not chunk:
                break
            body += chunk
    return body


handshake._get_resp_headers = _read_headers  # for every connection of this process


class _ReadAheadBuffer(frame_buffer):
    """Serves frames from bytes that were read ahead, READ_BYTES at a time."""

    def clear(self) -> None:
        super().clear()
        if not hasattr(self, "_data"):
            self._data = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._data += chunk

    @property
    def empty(self) -> bool:
        """Every frame so far was read to its end."""
        return not self._data and self.header is None

    def recv_strict(self, bufsize: int) -> bytes:
        if bufsize > MAX_MESSAGE_BYTES:
            raise SourceFailed(f"sent a frame of {bufsize} bytes; the limit is {MAX_MESSAGE_BYTES}")
        data = self._data
        if len(data) < bufsize:
            raise websocket.WebSocketTimeoutException("the rest of the frame is on its way")
        content = bytes(data[:bufsize])
        del data[:bufsize]
        return content

    def pop_messages(self) -> list[bytes]:
        """Remove the leading messages that are complete and in one frame each; the library reads any other."""
        # Nearly all messages are such, and the library needs ten times as long for one (measured: 3 us against 0.25).
        data, copy = self._data, b""
        messages: list[bytes] = []
        if self.header is not None:
            return messages
        size, at = len(data), 0
        while size - at >= 4 and data[at] in _SINGLE_FRAME:
            length, start = data[at + 1], at + 2
            if length >= 126:
                if length > 126:  # long, or masked
                    break
                length, start = data[at + 2] << 8 | data[at + 3], at + 4
            end = start + length
            if end > size:
                break
            copy = copy or bytes(data)  # slices of a bytearray would be copied twice
            messages.append(copy[start:end])
            at = end
        if at:
            del data[:at]
        return messages


class Connection:
    """An open connection. Every method raises SourceFailed once it cannot be used any more."""

    def __init__(self, source: Source, symbols: Sequence[str], timeout_s: float) -> None:
        """symbols: what to subscribe to, where the exchange needs that."""
        self._exchange = source.exchange
        self._socket = websocket.WebSocket(skip_utf8_validation=True)
        self._buffer = self._socket.frame_buffer = _ReadAheadBuffer(self._socket._recv, True)
        self._socket.settimeout(timeout_s)
        try:
            url = ascii_url(source.exchange.connection_url(source.url))
            # No extension is offered, so a frame with a reserved bit is a protocol error and fails the source.
            self._socket.connect(url, socket=_open_socket(source, url, timeout_s), redirect_limit=0)
            for text in source.exchange.subscribe_messages(symbols):
                self._socket.send(text)
            self._socket.settimeout(0)
        except (SourceFailed, WebSocketException, OSError, ValueError) as error:
            self.close()
            raise failure_of(error) from error
        self._partial: bytearray | None = None  # the fragments of a message so far
        self._received_at = self._pinged_at = time.monotonic()
        self.control_at = 0.0  # when the last ping or pong arrived; 0: none yet
        self._failure: SourceFailed | None = None

    def subscribe(self, symbols: Sequence[str]) -> None:
        """Subscribe to more symbols, or once more."""
        for text in self._exchange.subscribe_messages(symbols):
            self._send(partial(self._socket.send, text))

    def fileno(self) -> int:
        """The socket, for a selector. A selector does not see bytes that TLS has read already: see `pending`."""
        return int(self._socket.fileno())

    @property
    def pending(self) -> bool:
        """Whether `receive` has a result although the socket may have nothing to read."""
        sock = self._socket.sock
        return self._failure is not None or (isinstance(sock, ssl.SSLSocket) and sock.pending() > 0)

    def receive(self) -> list[bytes]:
        """The messages that are there, oldest first; pings are answered. A failure is raised once it returned all."""
        if self._failure is not None:
            raise self._failure
        messages: list[bytes] = []
        try:
            self._receive_into(messages)
        except (websocket.WebSocketTimeoutException, BlockingIOError, ssl.SSLWantReadError):
            pass
        except (SourceFailed, WebSocketException, OSError, ValueError) as error:
            self._failure = failure_of(error)
        if messages:
            self._received_at = time.monotonic()
        elif self._failure is not None:
            raise self._failure
        return messages

    def read(self, wait_s: float = HEARTBEAT_S) -> list[bytes]:
        """As `receive`, but wait up to `wait_s` seconds for something to read."""
        if not self.pending:
            select.select([self], [], [], wait_s)
        return self.receive()

    def _receive_into(self, messages: list[bytes]) -> None:
        ws, buffer = self._socket, self._buffer
        chunk = b"" if ws.sock is None else ws.sock.recv(READ_BYTES)
        if not chunk:
            raise websocket.WebSocketConnectionClosedException
        buffer.feed(chunk)
        while True:
            if self._partial is None:
                messages += buffer.pop_messages()
                if buffer.empty:
                    return
            message = self._handle_frame(ws.recv_frame())
            self._received_at = time.monotonic()
            if message is not None:
                messages.append(message)

    def check_alive(self, dead_after_s: float) -> None:
        """Ping a silent source. Raises SourceDead when nothing at all arrived for `dead_after_s`."""
        now = time.monotonic()
        if now - self._received_at >= dead_after_s:
            raise SourceDead(f"dead: nothing came for {dead_after_s:g} s, no pong either")
        if now - max(self._received_at, self._pinged_at) >= dead_after_s / 3:
            self._pinged_at = now
            self._send(self._socket.ping)

    def close(self) -> None:
        """Close without waiting for the exchange to answer the close frame."""
        with suppress(WebSocketException, OSError, ValueError):
            if self._socket.connected:
                self._socket.send_close()
        self._socket.shutdown()

    def _handle_frame(self, frame: ABNF) -> bytes | None:
        if frame.opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY, ABNF.OPCODE_CONT):
            return self._join_fragment(frame)
        if frame.opcode == ABNF.OPCODE_PING:
            self._send(lambda: self._socket.pong(frame.data))
        if frame.opcode in (ABNF.OPCODE_PING, ABNF.OPCODE_PONG):
            self.control_at = time.monotonic()
        elif frame.opcode == ABNF.OPCODE_CLOSE:
            data = frame.data if isinstance(frame.data, bytes) else b""
            code = int.from_bytes(data[:2]) if len(data) >= 2 else 1005
            text = excerpt(data[2:])
            raise SourceFailed(f"closed by the exchange (code {code}{': ' if text else ''}{text})")
        return None

    def _join_fragment(self, frame: ABNF) -> bytes | None:
        """The message that `frame` completes. The library would copy all earlier fragments for each one."""
        assert isinstance(frame.data, bytes)
        if (self._partial is None) == (frame.opcode == ABNF.OPCODE_CONT):
            raise SourceFailed("sent fragments that do not fit together")
        if self._partial is None:
            if frame.fin:
                return frame.data
            self._partial = bytearray()
        self._partial += frame.data
        if len(self._partial) > MAX_MESSAGE_BYTES:
            raise SourceFailed(f"sent a message in fragments beyond {MAX_MESSAGE_BYTES} bytes")
        if not frame.fin:
            return None
        message, self._partial = bytes(self._partial), None
        return message

    def _send(self, send: Callable[[], object]) -> None:
        try:
            send()
        except (BlockingIOError, ssl.SSLWantWriteError):
            # A part may have been sent already, and the exchange could not read what follows.
            raise SourceFailed("takes nothing of what is sent to it") from None
        except (WebSocketException, OSError) as error:
            raise failure_of(error) from error


def ascii_url(url: str) -> str:
    """A URL as it goes over the wire: what is not ASCII in its host is in IDNA, and elsewhere percent-encoded.

    >>> ascii_url("wss://stream.example.com/ws/\u5e01usdt@trade")
    'wss://stream.example.com/ws/%E5%B8%81usdt@trade'
    """
    if url.isascii():
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    netloc = quote(user, _SAFE) + at + host.encode("idna").decode()
    return urlunsplit((parts.scheme, netloc, quote(parts.path, _SAFE), quote(parts.query, _SAFE), ""))


def _open_socket(source: Source, url: str, timeout_s: float) -> socket.socket:
    """Connected, and with TLS for wss://."""
    host, port, _, secure = parse_url(url)
    context = _tls_context(source) if secure else None
    sock = dial(host, port, secure, timeout_s)
    try:
        return context.wrap_socket(sock, server_hostname=host) if context else sock
    except BaseException:
        sock.close()
        raise


def _tls_context(source: Source) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=source.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SourceFailed(f"ca_file {source.ca_file} cannot be used: {error}") from error
