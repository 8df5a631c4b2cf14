"""The exchanges, each a small file: one more is a file like the others, a line here, and a table of its frames in the
tests (tests/unit/test_exchanges.py)."""

from hybrid_engine.ingest.exchanges.auto import Auto
from hybrid_engine.ingest.exchanges.base import Decoded, Exchange, Mark, decode, plain
from hybrid_engine.ingest.exchanges.binance import Binance
from hybrid_engine.ingest.exchanges.gemini_v1 import GeminiV1
from hybrid_engine.ingest.exchanges.gemini_v2 import GeminiV2

__all__ = ["EXCHANGES", "Decoded", "Exchange", "Mark", "decode", "plain"]

EXCHANGES: dict[str, Exchange] = {exchange.kind: exchange for exchange in (Auto(), Binance(), GeminiV1(), GeminiV2())}
