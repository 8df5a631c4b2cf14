"""MOCK_WS: whichever protocol a frame has the shape of. What the exchanges send of trades has no shape in common."""

from collections.abc import Sequence

from hybrid_engine.exchanges.base import Decoded, Exchange, Frame
from hybrid_engine.exchanges.binance import Binance
from hybrid_engine.exchanges.coinbase import Coinbase
from hybrid_engine.exchanges.gemini import Gemini
from hybrid_engine.exchanges.gemini_v1 import GeminiV1
from hybrid_engine.exchanges.gemini_v2 import GeminiV2
from hybrid_engine.exchanges.kraken import Kraken

_BINANCE, _COINBASE, _KRAKEN = Binance(), Coinbase(), Kraken()
_GEMINI, _GEMINI_V1, _GEMINI_V2 = Gemini(), GeminiV1(), GeminiV2()


class Auto(Exchange):
    kind = "auto"

    def decode(self, frame: Frame) -> Decoded:
        if "e" in frame or "stream" in frame:
            return _BINANCE.decode(frame)
        if "channel" in frame or "success" in frame:
            return _KRAKEN.decode(frame)
        if "type" not in frame:
            return _GEMINI.decode(frame)
        if "socket_sequence" in frame or frame["type"] == "update":
            return _GEMINI_V1.decode(frame)
        return _GEMINI_V2.decode(frame) if frame["type"] == "trade" else _COINBASE.decode(frame)

    def decode_run(self, messages: Sequence[bytes]) -> Sequence[Decoded] | None:
        return _BINANCE.decode_run(messages)
