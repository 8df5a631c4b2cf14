"""Every protocol of the mock exchange, in one table: they live on one port and are told apart by path."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from proofs.mock_exchange.protocols.base import ExchangeProtocol, RecordedTrade, UnknownPathError
from proofs.mock_exchange.protocols.binance import Binance
from proofs.mock_exchange.protocols.coinbase import Coinbase
from proofs.mock_exchange.protocols.gemini import GeminiStreams, GeminiV1, GeminiV2
from proofs.mock_exchange.protocols.kraken import Kraken

PROTOCOLS: tuple[type[ExchangeProtocol], ...] = (Binance, GeminiV1, GeminiV2, GeminiStreams, Coinbase, Kraken)

#: Kind of source -> the path and query that a client of it asks for; {s} is the symbol as the exchange spells it there.
PATHS = {kind: path for protocol in PROTOCOLS for kind, path in protocol.paths.items()}
#: Protocol -> the protocol whose recorded frames are its noise.
NOISE_OF = {protocol.family: protocol.noise_family or protocol.family for protocol in PROTOCOLS}


def open_protocol(target: str, trades_per_frame: int = 1) -> ExchangeProtocol:
    """The protocol of a request target (path and query). Raises UnknownPathError if there is none."""
    path = urlsplit(target).path
    for protocol in PROTOCOLS:
        if protocol.serves(path):
            return protocol(target, trades_per_frame)
    raise UnknownPathError(f"no such path: {path!r}")


def classify(frame: Mapping[str, Any]) -> tuple[str, list[RecordedTrade]] | None:
    """(family, trades) of a recorded frame; no trades for noise.

    None for what is of no use here: snapshots and heartbeats, which the exchange makes itself, and unknown formats.
    """
    for protocol in PROTOCOLS:
        trades = protocol.parse_recorded(frame)
        if trades is not None:
            return protocol.family, trades
    return None
