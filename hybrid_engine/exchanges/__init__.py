"""The exchanges' protocols, one module each, and the registry of them.

To add an exchange, write a module like the others and add its line to `_REGISTRY`; then add its protocol to the mock
exchange (proofs/mock_exchange/protocols/) and a table of its frames to tests/exchanges/.
"""

from collections.abc import Sequence

from hybrid_engine.exchanges.base import ALL, UNKNOWN, Decoded, Exchange, Frame, Mark, Refusal, decode, normalize_symbol
from hybrid_engine.exchanges.binance import Binance
from hybrid_engine.exchanges.coinbase import Coinbase
from hybrid_engine.exchanges.gemini import Gemini, GeminiV1, GeminiV2
from hybrid_engine.exchanges.kraken import Kraken

__all__ = ["ALL", "EXCHANGES", "Decoded", "Exchange", "Mark", "Refusal", "decode", "normalize_symbol"]

# The order matters: the first exchange that recognizes a frame, or serves a URL, is taken for its own.
_REGISTRY: tuple[Exchange, ...] = (Binance(), Kraken(), Gemini(), GeminiV1(), GeminiV2(), Coinbase())


class Auto(Exchange):
    """The kind "auto" of MOCK_WS: tells by the shape of each frame which exchange's protocol it is."""

    kind = "auto"

    def decode(self, frame: Frame) -> Decoded:
        for exchange in _REGISTRY:
            if exchange.recognizes(frame):
                return exchange.decode(frame)
        return UNKNOWN

    def decode_run(self, messages: Sequence[bytes]) -> Sequence[Decoded] | None:
        for exchange in _REGISTRY:
            run = exchange.decode_run(messages)
            if run is not None:
                return run
        return None


EXCHANGES: dict[str, Exchange] = {exchange.kind: exchange for exchange in (Auto(), *_REGISTRY)}
