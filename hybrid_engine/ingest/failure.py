"""Why a source cannot be used now, in words for the operator, and for how long it is to be left alone."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websocket import WebSocketBadStatusException

# How long a source that said "not you" or "not now" is left alone, in seconds.
REFUSED_HOLD_S = 900.0
LIMITED_HOLD_S = 60.0
MAX_HOLD_S = 3 * 86_400.0  # the longest that Binance bans anybody for


class SourceFailed(Exception):
    """This source cannot be used now; `hold_s` seconds should pass before it is tried again."""

    def __init__(self, reason: str, hold_s: float = 0.0) -> None:
        super().__init__(reason)
        self.hold_s = hold_s


class Dead(SourceFailed):
    """Nothing at all comes any more."""


class Garbage(SourceFailed):
    """The source answers, but its trades do not decode."""


def failure_of(error: Exception) -> SourceFailed:
    """What an error of a socket, of TLS or of the library says of the source."""
    import ssl  # these two are loaded with the first connection, for READY need not wait for them

    from websocket import WebSocketBadStatusException, WebSocketConnectionClosedException

    if isinstance(error, SourceFailed):
        return error
    if isinstance(error, WebSocketBadStatusException):
        return SourceFailed(f"answered HTTP {error.status_code}", _hold_s(error))
    if isinstance(error, ssl.SSLCertVerificationError):
        return SourceFailed(f"bad certificate: {error.verify_message}")
    if isinstance(error, WebSocketConnectionClosedException):
        return SourceFailed("connection lost")
    if isinstance(error, ConnectionRefusedError):
        return SourceFailed("connection refused")
    return SourceFailed(f"{type(error).__name__}: {error}")


def _hold_s(error: "WebSocketBadStatusException") -> float:
    """How long to leave alone who answered so: seconds, what it asked for or what its status means."""
    asked = retry_after_s({k.lower(): v for k, v in (error.resp_headers or {}).items()}.get("retry-after", ""))
    if error.status_code in (403, 451):
        return max(REFUSED_HOLD_S, asked or 0.0)
    if error.status_code in (418, 429):
        return LIMITED_HOLD_S if asked is None else asked
    return asked or 0.0 if error.status_code == 503 else 0.0


def retry_after_s(text: str) -> float | None:
    """Seconds from now that a Retry-After header asks for, at most MAX_HOLD_S; None when it says nothing of use."""
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_HOLD_S)
    from email.utils import parsedate_to_datetime  # only a date pays for it

    try:
        due = parsedate_to_datetime(text)
    except ValueError:
        return None
    left = (due.replace(tzinfo=due.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(left, MAX_HOLD_S) if left > 0 else None  # one that is past: a clock is wrong, here or there
