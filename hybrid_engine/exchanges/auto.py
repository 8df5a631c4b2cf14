"""The kind "auto" of MOCK_WS: tells by the shape of each frame which exchange's protocol it is."""

from collections.abc import Sequence

from hybrid_engine.exchanges.base import NOTHING, Decoded, Exchange, Frame


class Auto(Exchange):
    kind = "auto"

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        """`exchanges`: the first one that recognizes a frame decodes it."""
        self._exchanges = exchanges

    def decode(self, frame: Frame) -> Decoded:
        for exchange in self._exchanges:
            if exchange.recognizes(frame):
                return exchange.decode(frame)
        return NOTHING

    def decode_run(self, messages: Sequence[bytes]) -> Sequence[Decoded] | None:
        for exchange in self._exchanges:
            run = exchange.decode_run(messages)
            if run is not None:
                return run
        return None
