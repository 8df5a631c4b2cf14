"""The WebSocket frames of the benchmark: Binance aggTrade in a combined stream, one trade a frame.

`f` and `l` count from 1 without gaps. Where latency is measured, `a`, the trade's id, is the CLOCK_MONOTONIC time of
sending in nanoseconds: ids pass unchanged through every stage and into the database, so the latency can be computed
anywhere.
"""

import struct

SYMBOL = "ETHUSDT"
PATH = "/stream?streams=ethusdt@aggTrade"
_TEXT = (
    b'{"stream":"%s@aggTrade","data":{"e":"aggTrade","E":%d,"s":"%s","a":%d,"p":"%d.%02d000000",'
    b'"q":"0.%04d0000","f":%d,"l":%d,"T":%d,"m":%s,"M":true}}'
)


def frame(number: int, trade_id: int, time_ms: int, symbol: str = SYMBOL) -> bytes:
    """Trade `number` (from 1) as one unmasked text frame. Prices walk around 2500, far below every risk cap."""
    name = symbol.encode()
    text = _TEXT % (
        name.lower(),
        time_ms,
        name,
        trade_id,
        2500 + number % 17,
        number % 100,
        1 + number % 9999,
        number,
        number,
        time_ms,
        b"true" if number % 2 else b"false",
    )
    return struct.pack("!BBH", 0x81, 126, len(text)) + text  # always 126 to 65535 bytes


def flood(count: int, time_ms: int, symbol: str = SYMBOL, first: int = 1) -> list[bytes]:
    """Frames of trades `first` to `first + count - 1`, joined into pieces of about 64 KiB of whole frames."""
    pieces, piece = [], bytearray()
    for number in range(first, first + count):
        piece += frame(number, number, time_ms, symbol)
        if len(piece) >= 65536:
            pieces.append(bytes(piece))
            piece = bytearray()
    return [*pieces, bytes(piece)] if piece else pieces
