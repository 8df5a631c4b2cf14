"""MOCK_WS: whichever protocol a frame has the shape of. The trade frames of the exchanges have no shape in common."""

from hybrid_engine.ingest.exchanges.base import Decoded, Exchange, Frame
from hybrid_engine.ingest.exchanges.binance import Binance
from hybrid_engine.ingest.exchanges.gemini_v1 import GeminiV1
from hybrid_engine.ingest.exchanges.gemini_v2 import GeminiV2

_BINANCE = Binance()
_BY_TYPE: dict[str, Exchange] = {"update": GeminiV1(), "trade": GeminiV2()}


class Auto(Exchange):
    kind = "auto"

    def decode(self, frame: Frame) -> Decoded:
        kind = frame.get("type")
        return (_BY_TYPE.get(kind, _BINANCE) if isinstance(kind, str) else _BINANCE).decode(frame)
