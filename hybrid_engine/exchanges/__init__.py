"""The exchanges' protocols, one module each, and the registry of them.

To add an exchange, write a module like the others and add its line to `_REGISTRY`; then add its protocol to the mock
exchange (proofs/mock_exchange/protocols/) and a table of its frames to tests/exchanges/.
"""

from hybrid_engine.exchanges.auto import Auto
from hybrid_engine.exchanges.base import Decoded, Exchange, Mark, decode, normalize_symbol
from hybrid_engine.exchanges.binance import Binance
from hybrid_engine.exchanges.coinbase import Coinbase
from hybrid_engine.exchanges.gemini import Gemini
from hybrid_engine.exchanges.gemini_v1 import GeminiV1
from hybrid_engine.exchanges.gemini_v2 import GeminiV2
from hybrid_engine.exchanges.kraken import Kraken

__all__ = ["EXCHANGES", "Decoded", "Exchange", "Mark", "decode", "normalize_symbol"]

# The order matters: the first exchange that recognizes a frame, or serves a URL, is taken for its own.
_REGISTRY: tuple[Exchange, ...] = (
    Binance(),
    Kraken(),
    Gemini(),
    GeminiV1(),
    GeminiV2(),
    Coinbase(),
)
EXCHANGES: dict[str, Exchange] = {exchange.kind: exchange for exchange in (Auto(_REGISTRY), *_REGISTRY)}
