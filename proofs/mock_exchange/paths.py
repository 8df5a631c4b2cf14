"""Which protocol an upgrade request asks for: all of them live on one port, told apart by path."""

from __future__ import annotations

from urllib.parse import urlsplit

from .binance import Binance
from .gemini import V1_PATH, V2_PATH, GeminiV1, GeminiV2
from .wire import UnknownPathError, Wire


def open_wire(target: str, trades_per_frame: int = 1) -> Wire:
    """The protocol of a request target (path and query); UnknownPathError if there is none."""
    path = urlsplit(target).path
    if path.startswith("/ws/") or path.rstrip("/") == "/stream":
        return Binance(target)
    if path.startswith(V1_PATH):
        return GeminiV1(target, trades_per_frame)
    if path.rstrip("/") == V2_PATH:
        return GeminiV2()
    raise UnknownPathError(f"no such path: {path!r}")
