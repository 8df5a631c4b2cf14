"""The exchanges, each a small file: one more is a file like the others, its line here and in `auto`, and a table of its
frames in tests/unit/hybrid_engine/exchanges/test_decoding.py."""

from hybrid_engine.exchanges.auto import Auto
from hybrid_engine.exchanges.base import Decoded, Exchange, Mark, decode, plain
from hybrid_engine.exchanges.binance import Binance
from hybrid_engine.exchanges.coinbase import Coinbase
from hybrid_engine.exchanges.gemini import Gemini
from hybrid_engine.exchanges.gemini_v1 import GeminiV1
from hybrid_engine.exchanges.gemini_v2 import GeminiV2
from hybrid_engine.exchanges.kraken import Kraken

__all__ = ["EXCHANGES", "Decoded", "Exchange", "Mark", "decode", "plain"]

_ALL: tuple[Exchange, ...] = (Auto(), Binance(), Coinbase(), Gemini(), GeminiV1(), GeminiV2(), Kraken())
EXCHANGES: dict[str, Exchange] = {exchange.kind: exchange for exchange in _ALL}
