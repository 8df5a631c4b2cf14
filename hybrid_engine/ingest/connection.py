"""One WebSocket connection to one source: opening it, reading what waits, knowing when it is dead.

Built on websocket-client. Its frame buffer is replaced by one that reads ahead: that caps the size of a frame, which
the library does not, and tells when the socket is empty, so that whatever came is handed over in one go. Opening
blocks; an open connection never does, so that one thread can read many.
"""

import select
import ssl
import time
from collections.abc import Callable

from websocket import (
    ABNF,
    WebSocket,
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketTimeoutException,
)
from websocket._abnf import frame_buffer

from hybrid_engine.config.sources import Source
from hybrid_engine.ingest.failure import Dead, SourceFailed, failure_of
from hybrid_engine.ingest.handshake import read_bounded_heads
from hybrid_engine.stages.channel import BEAT_S

# A hundred times what an exchange was seen to send. As JSON of the worst kind it takes 40 times that while it is read
# (measured: 150 MB, 2 s), which the unit's memory limit and the watchdog leave room for.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
READ_BYTES = 64 * 1024
_WHOLE = (0x81, 0x82)  # first byte of a message in one frame: text, binary

read_bounded_heads()


class _ReadAhead(frame_buffer):
    """Takes what the socket has, up to READ_BYTES at a time, and serves frames from that."""

    def clear(self) -> None:
        super().clear()
        if not hasattr(self, "_data"):
            self._data = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._data += chunk

    def recv_strict(self, bufsize: int) -> bytes:
        if bufsize > MAX_MESSAGE_BYTES:
            raise SourceFailed(f"sent a frame of {bufsize} bytes; the limit is {MAX_MESSAGE_BYTES}")
        data = self._data
        if len(data) < bufsize:
            raise WebSocketTimeoutException("the rest of the frame is on its way")
        taken = bytes(data[:bufsize])
        del data[:bufsize]
        return taken

    def whole_messages(self) -> list[bytes]:
        """The messages in front that came whole, in one frame each; anything else is left to the library.

        Nearly all are such, and the library takes ten times as long over one (measured: 3 us against 0.25).
        """
        data, whole = self._data, b""
        found: list[bytes] = []
        if self.header is not None:
            return found
        size, at = len(data), 0
        while size - at >= 4 and data[at] in _WHOLE:
            length, start = data[at + 1], at + 2
            if length >= 126:
                if length > 126:  # long, or masked
                    break
                length, start = data[at + 2] << 8 | data[at + 3], at + 4
            end = start + length
            if end > size:
                break
            whole = whole or bytes(data)  # whose pieces are not copied twice
            found.append(whole[start:end])
            at = end
        if at:
            del data[:at]
        return found


class _Socket(WebSocket):
    def __init__(self, sslopt: dict[str, object]) -> None:
        super().__init__(sslopt=sslopt, skip_utf8_validation=True)
        self.frame_buffer: _ReadAhead = _ReadAhead(self._recv, True)


class Connection:
    """An open connection. Raises SourceFailed from every method once it is of no use."""

    def __init__(self, source: Source, app_symbol: str, timeout_s: float) -> None:
        self._socket = _Socket(_tls(source))
        self._socket.settimeout(timeout_s)
        try:
            # No extensions are offered, so a frame with a reserved bit is a protocol error, which fails the source.
            self._socket.connect(source.exchange.ask(source.url), redirect_limit=0)
            for text in source.exchange.subscribe(source.symbols or (app_symbol,)):
                self._socket.send(text)
            self._socket.settimeout(0)
        except (SourceFailed, WebSocketException, OSError, ValueError) as error:
            self.close()
            raise failure_of(error) from error
        self._partial: bytearray | None = None  # of a message in fragments, what has come
        self.heard_at = self._pinged_at = time.monotonic()
        self.control_at = 0.0  # the newest ping or pong: a sign of life that is no frame
        self._failure: SourceFailed | None = None

    def fileno(self) -> int:
        """The socket, for a selector. What already lies in here a selector does not see: ask `pending`."""
        return int(self._socket.fileno())

    @property
    def pending(self) -> bool:
        """Whether `take` has something for sure, though the socket may have nothing."""
        sock = self._socket.sock
        return self._failure is not None or (isinstance(sock, ssl.SSLSocket) and sock.pending() > 0)

    def take(self) -> list[bytes]:
        """The messages that have come, oldest first, without waiting. Pings are answered on the way.

        A failure is raised by the call after the one that had the last messages.
        """
        if self._failure is not None:
            raise self._failure
        messages: list[bytes] = []
        try:
            self._take_into(messages)
        except (WebSocketTimeoutException, BlockingIOError, ssl.SSLWantReadError):
            pass
        except (SourceFailed, WebSocketException, OSError, ValueError) as error:
            self._failure = failure_of(error)
        if messages:
            self.heard_at = time.monotonic()
        elif self._failure is not None:
            raise self._failure
        return messages

    def read(self, wait_s: float = BEAT_S) -> list[bytes]:
        """As `take`, waiting at most `wait_s` for something to come."""
        if not self.pending:
            select.select([self], [], [], wait_s)
        return self.take()

    def _take_into(self, messages: list[bytes]) -> None:
        ws = self._socket
        if ws.sock is None:
            raise WebSocketConnectionClosedException
        chunk = ws.sock.recv(READ_BYTES)
        if not chunk:
            raise WebSocketConnectionClosedException
        buffer = ws.frame_buffer
        buffer.feed(chunk)
        while True:
            if self._partial is None:
                messages += buffer.whole_messages()
            message = self._message(ws.recv_frame())
            self.heard_at = time.monotonic()
            if message is not None:
                messages.append(message)

    def check_alive(self, dead_after_s: float) -> None:
        """Ask a quiet source for a pong; raise when nothing at all came for `dead_after_s`."""
        now = time.monotonic()
        if now - self.heard_at >= dead_after_s:
            raise Dead(f"dead: nothing came for {dead_after_s:g} s, no pong either")
        if now - max(self.heard_at, self._pinged_at) >= dead_after_s / 3:
            self._pinged_at = now
            self._say(self._socket.ping)

    def close(self) -> None:
        """Hang up. An exchange that does not answer the close frame is not waited for."""
        try:
            if self._socket.connected:
                self._socket.send_close()
        except (WebSocketException, OSError, ValueError):
            pass
        finally:
            self._socket.shutdown()

    def _message(self, frame: ABNF) -> bytes | None:
        if frame.opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY, ABNF.OPCODE_CONT):
            return self._fragment(frame)
        if frame.opcode == ABNF.OPCODE_PING:
            self._say(lambda: self._socket.pong(frame.data))
            self.control_at = time.monotonic()
        elif frame.opcode == ABNF.OPCODE_PONG:
            self.control_at = time.monotonic()
        elif frame.opcode == ABNF.OPCODE_CLOSE:
            data = frame.data if isinstance(frame.data, bytes) else b""
            code = int.from_bytes(data[:2]) if len(data) >= 2 else 1005
            raise SourceFailed(f"closed by the exchange (code {code})")
        return None

    def _fragment(self, frame: ABNF) -> bytes | None:
        """The message that `frame` ends. The library would copy all that came before for each fragment."""
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
        whole, self._partial = bytes(self._partial), None
        return whole

    def _say(self, send: Callable[[], None]) -> None:
        try:
            send()
        except (BlockingIOError, ssl.SSLWantWriteError):
            # Part of it may be out already: what follows would make no sense over there.
            raise SourceFailed("takes nothing of what is sent to it") from None
        except (WebSocketException, OSError) as error:
            raise failure_of(error) from error


def _tls(source: Source) -> dict[str, object]:
    if not source.url.startswith("wss:"):
        return {}
    try:
        return {"context": ssl.create_default_context(cafile=source.ca_file or None)}
    except (OSError, ssl.SSLError) as error:
        raise SourceFailed(f"ca_file {source.ca_file} cannot be used: {error}") from error
