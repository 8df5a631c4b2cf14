"""One WebSocket connection to one source: opening it, reading what waits, knowing when it is dead.

Built on websocket-client. Its frame buffer is replaced by one that reads ahead: that caps the size of a frame, which
the library does not, and tells when the socket is empty, so that whatever came is handed over in one go.
"""

import socket
import ssl
import time

from websocket import (
    ABNF,
    WebSocket,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketTimeoutException,
)
from websocket import _handshake as library_handshake
from websocket._abnf import frame_buffer
from websocket._http import read_headers

from hybrid_engine.channel import BEAT_S
from hybrid_engine.ingest.exchanges import EXCHANGES
from hybrid_engine.sources import Source, guess_kind

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
READ_BYTES = 64 * 1024
# How long a source that said "not you" or "not now" is left alone, in seconds.
REFUSED_HOLD_S = 900.0
LIMITED_HOLD_S = 60.0
MAX_HOLD_S = 3600.0


class SourceFailed(Exception):
    """This source cannot be used now; `hold_s` seconds should pass before it is tried again."""

    def __init__(self, reason: str, hold_s: float = 0.0) -> None:
        super().__init__(reason)
        self.hold_s = hold_s


def _status_alone(
    sock: socket.socket, success_statuses: tuple[int, ...] = library_handshake.SUCCESS_STATUSES
) -> tuple[int, dict[str, str]]:
    status, headers, message = read_headers(sock)
    if status not in success_statuses:
        raise WebSocketBadStatusException(f"{status} {message}", status, message, headers, None)
    return status, headers


# The library waits for the body of an HTTP error before it says that there is one; a slow body must not hold up the
# next source. What was sent is decided by the status alone.
library_handshake._get_resp_headers = _status_alone


class _ReadAhead(frame_buffer):
    """Takes what the socket has, up to READ_BYTES at a time, and serves frames from that."""

    def clear(self) -> None:
        super().clear()
        if not hasattr(self, "_data"):
            self._data = bytearray()

    def recv_strict(self, bufsize: int) -> bytes:
        if bufsize > MAX_MESSAGE_BYTES:
            raise SourceFailed(f"sent a frame of {bufsize} bytes; the limit is {MAX_MESSAGE_BYTES}")
        data = self._data
        if len(data) < bufsize:
            data += self.recv(READ_BYTES)
        if len(data) < bufsize:
            # What came is kept. The reader must get to beat, however slowly the rest drips in.
            raise WebSocketTimeoutException("the rest of the frame is on its way")
        taken = bytes(data[:bufsize])
        del data[:bufsize]
        return taken

    def holds_frame(self) -> bool:
        """Whether a whole frame waits, so that reading it cannot block."""
        data = self._data
        if self.header is not None or len(data) < 2:
            return False
        masked, short = data[1] & 0x80, data[1] & 0x7F
        extra = {126: 2, 127: 8}.get(short, 0)
        if len(data) < 2 + extra:
            return False
        length = int.from_bytes(data[2 : 2 + extra]) if extra else short
        return len(data) >= 2 + extra + (4 if masked else 0) + length


class _Socket(WebSocket):
    def __init__(self, sslopt: dict[str, object]) -> None:
        super().__init__(sslopt=sslopt, skip_utf8_validation=True)
        self.frame_buffer: _ReadAhead = _ReadAhead(self._recv, True)


class Connection:
    """An open connection. Raises SourceFailed from every method once it is of no use."""

    def __init__(self, source: Source, app_symbol: str, timeout_s: float) -> None:
        # A mock exchange is asked as its URL tells, and each of its frames is decoded by its shape.
        exchange = EXCHANGES[(guess_kind(source.url) or "auto") if source.kind == "auto" else source.kind]
        self._socket = _Socket(_tls(source))
        self._socket.settimeout(timeout_s)
        try:
            # No extensions are offered, so a frame with a reserved bit is a protocol error, which fails the source.
            self._socket.connect(exchange.ask(source.url), redirect_limit=0)
            for text in exchange.subscribe(source.symbols or (app_symbol,)):
                self._socket.send(text)
            self._socket.settimeout(BEAT_S)
        except WebSocketBadStatusException as error:
            raise SourceFailed(f"answered HTTP {error.status_code}", _hold_s(error)) from error
        except (WebSocketException, OSError, ValueError) as error:
            self.close()
            raise SourceFailed(_reason(error)) from error
        self.heard_at = self._pinged_at = time.monotonic()
        self.control_at = 0.0  # the newest ping or pong: a sign of life that is no frame
        self._failure: SourceFailed | None = None

    def read(self) -> list[bytes]:
        """The messages that wait, oldest first; waits at most BEAT_S for the first. Pings are answered on the way."""
        if self._failure is not None:
            raise self._failure
        messages: list[bytes] = []
        try:
            while True:
                message = self._message(self._socket.recv_frame())
                self.heard_at = time.monotonic()
                if message is not None:
                    messages.append(message)
                if not self._socket.frame_buffer.holds_frame():
                    break
        except WebSocketTimeoutException:
            pass
        except SourceFailed as error:
            self._failure = error
        except (WebSocketException, OSError, ValueError) as error:
            self._failure = SourceFailed(_reason(error))
        if self._failure is not None and not messages:
            raise self._failure
        return messages

    def check_alive(self, dead_after_s: float) -> None:
        """Ask a quiet source for a pong; raise when nothing at all came for `dead_after_s`."""
        now = time.monotonic()
        if now - self.heard_at >= dead_after_s:
            raise SourceFailed(f"dead: nothing came for {dead_after_s:g} s, no pong either")
        if now - max(self.heard_at, self._pinged_at) >= dead_after_s / 3:
            self._pinged_at = now
            try:
                self._socket.ping()
            except (WebSocketException, OSError) as error:
                raise SourceFailed(_reason(error)) from error

    def close(self) -> None:
        """Hang up. An exchange that does not answer the close frame is not waited for."""
        try:
            if self._socket.connected:
                self._socket.settimeout(BEAT_S)
                self._socket.send_close()
        except (WebSocketException, OSError, ValueError):
            pass
        finally:
            self._socket.shutdown()

    def _message(self, frame: ABNF) -> bytes | None:
        ws = self._socket
        if frame.opcode in (ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY, ABNF.OPCODE_CONT):
            ws.cont_frame.validate(frame)
            ws.cont_frame.add(frame)
            if ws.cont_frame.cont_data and len(ws.cont_frame.cont_data[1]) > MAX_MESSAGE_BYTES:
                raise SourceFailed(f"sent a message in fragments beyond {MAX_MESSAGE_BYTES} bytes")
            if frame.fin:
                whole: bytes = ws.cont_frame.extract(frame)[1].data
                return whole
        elif frame.opcode == ABNF.OPCODE_PING:
            ws.pong(frame.data)
            self.control_at = time.monotonic()
        elif frame.opcode == ABNF.OPCODE_PONG:
            self.control_at = time.monotonic()
        elif frame.opcode == ABNF.OPCODE_CLOSE:
            data = frame.data if isinstance(frame.data, bytes) else b""
            code = int.from_bytes(data[:2]) if len(data) >= 2 else 1005
            raise SourceFailed(f"closed by the exchange (code {code})")
        return None


def _tls(source: Source) -> dict[str, object]:
    if not source.url.startswith("wss:"):
        return {}
    try:
        return {"context": ssl.create_default_context(cafile=source.ca_file or None)}
    except (OSError, ssl.SSLError) as error:
        raise SourceFailed(f"ca_file {source.ca_file} cannot be used: {error}") from error


def _hold_s(error: WebSocketBadStatusException) -> float:
    if error.status_code in (403, 451):
        return REFUSED_HOLD_S
    if error.status_code in (418, 429):
        asked = {k.lower(): v for k, v in (error.resp_headers or {}).items()}.get("retry-after", "")
        return min(float(asked), MAX_HOLD_S) if asked.isdigit() else LIMITED_HOLD_S
    return 0.0


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"bad certificate: {error.verify_message}"
    if isinstance(error, WebSocketConnectionClosedException):
        return "connection lost"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return f"{type(error).__name__}: {error}"
