"""Which protocol an upgrade request asks for: all of them live on one port, told apart by path."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from proofs.mock_exchange.protocols.binance import Binance
from proofs.mock_exchange.protocols.coinbase import PATH as COINBASE_PATH
from proofs.mock_exchange.protocols.coinbase import Coinbase
from proofs.mock_exchange.protocols.gemini import V1_PATH, V2_PATH, GeminiV1, GeminiV2
from proofs.mock_exchange.protocols.gemini_streams import PATH as GEMINI_PATH
from proofs.mock_exchange.protocols.gemini_streams import GeminiStreams
from proofs.mock_exchange.protocols.kraken import PATH as KRAKEN_PATH
from proofs.mock_exchange.protocols.kraken import Kraken
from proofs.mock_exchange.protocols.wire import UnknownPathError, Wire


def open_wire(target: str, trades_per_frame: int = 1) -> Wire:
    """The protocol of a request target (path and query); UnknownPathError if there is none."""
    path = urlsplit(target).path
    if path.startswith("/ws/") or path.rstrip("/") == "/stream":
        return Binance(target)
    if path.startswith(V1_PATH):
        return GeminiV1(target, trades_per_frame)
    asked: dict[str, Callable[[], Wire]] = {
        V2_PATH: GeminiV2,
        COINBASE_PATH: Coinbase,
        KRAKEN_PATH: partial(Kraken, trades_per_frame),
        GEMINI_PATH: GeminiStreams,
    }
    if path.rstrip("/") in asked:
        return asked[path.rstrip("/")]()
    raise UnknownPathError(f"no such path: {path!r}")
