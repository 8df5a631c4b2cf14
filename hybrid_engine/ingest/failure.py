"""The errors of a source that cannot be used now: the reason for the operator, and how long to wait before a retry."""

from collections.abc import Mapping
from datetime import UTC, datetime

# Seconds to wait after an exchange refused this client, or limited its rate.
REFUSED_HOLD_S = 900.0
LIMITED_HOLD_S = 60.0
MAX_HOLD_S = 3 * 86_400.0  # the longest ban that Binance documents


class SourceFailed(Exception):
    """The source cannot be used now; it must not be retried for `hold_s` seconds."""

    def __init__(self, reason: str, hold_s: float = 0.0) -> None:
        super().__init__(reason)
        self.hold_s = hold_s


class SourceDead(SourceFailed):
    """Nothing was received for `dead_after_s`, not even a pong."""


class SourceUndecodable(SourceFailed):
    """The source sends frames, but its trades do not decode."""


def failure_of(error: Exception) -> SourceFailed:
    """Translate an error of a socket, of TLS or of websocket-client."""
    import ssl  # both are loaded with the first connection, not at start: READY must not wait for them

    from websocket import WebSocketBadStatusException, WebSocketConnectionClosedException

    if isinstance(error, SourceFailed):
        return error
    if isinstance(error, WebSocketBadStatusException):
        return SourceFailed(f"answered HTTP {error.status_code}", _hold_s(error.status_code, error.resp_headers or {}))
    if isinstance(error, ssl.SSLCertVerificationError):
        return SourceFailed(f"bad certificate: {error.verify_message}")
    if isinstance(error, WebSocketConnectionClosedException):
        return SourceFailed("connection lost")
    if isinstance(error, ConnectionRefusedError):
        return SourceFailed("connection refused")
    return SourceFailed(f"{type(error).__name__}: {error}")


def _hold_s(status: int, headers: Mapping[str, str]) -> float:
    """Seconds to wait after this HTTP answer: what Retry-After asks for, or what the status implies."""
    retry_s = retry_after_s({name.lower(): value for name, value in headers.items()}.get("retry-after", ""))
    if status in (403, 451):
        return max(REFUSED_HOLD_S, retry_s or 0.0)
    if status in (418, 429):
        return LIMITED_HOLD_S if retry_s is None else retry_s
    return retry_s or 0.0 if status == 503 else 0.0


def retry_after_s(text: str) -> float | None:
    """Parse a Retry-After header into seconds from now, at most MAX_HOLD_S; None where it is absent or invalid."""
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_HOLD_S)
    from email.utils import parsedate_to_datetime  # slow to import, and only a date needs it

    try:
        due = parsedate_to_datetime(text)
    except ValueError:
        return None
    remaining_s = (due.replace(tzinfo=due.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(remaining_s, MAX_HOLD_S) if remaining_s > 0 else None  # in the past: one of the two clocks is wrong
