"""The errors of a source that cannot be used now: the reason for the operator, and how long to wait before a retry."""

from collections.abc import Mapping
from datetime import UTC, datetime

from hybrid_engine.runtime.address import hide_addresses, show_address

# Seconds to wait after an exchange refused this client, or limited its rate.
REFUSED_HOLD_S = 900.0
LIMITED_HOLD_S = 60.0
EXCERPT = 200  # characters of what an exchange says that a reason has
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
        headers = {name.lower(): value for name, value in (error.resp_headers or {}).items()}
        where = show_address(headers["location"]) if "location" in headers else ""
        parts = f"answered HTTP {error.status_code}", where and f"it sends to {where}", excerpt(error.resp_body or b"")
        return SourceFailed(": ".join(filter(None, parts)), _hold_s(error.status_code, headers))
    if isinstance(error, ssl.SSLCertVerificationError):
        return SourceFailed(f"bad certificate: {error.verify_message}")
    if isinstance(error, WebSocketConnectionClosedException):
        return SourceFailed("connection lost")
    if isinstance(error, ConnectionRefusedError):
        return SourceFailed("connection refused")
    return SourceFailed(f"{type(error).__name__}: {error}")


def excerpt(data: bytes | str) -> str:
    """What an exchange says, as a part of a line: its first EXCERPT characters, what cannot be printed left out."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    words = "".join(c if c.isprintable() else " " for c in text[: 4 * EXCERPT]).split()
    return hide_addresses(" ".join(words))[:EXCERPT]


def _hold_s(status: int, headers: Mapping[str, str]) -> float:
    """Seconds to wait after this HTTP answer: what Retry-After asks for, or what the status implies."""
    retry_s = retry_after_s(headers.get("retry-after", ""))
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
