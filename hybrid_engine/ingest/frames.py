"""Decoders: the text of a frame becomes trades, or nothing, or a complaint.

Most frames of a real connection are no trades; they are ignored. Unknown types are ignored too, as exchanges demand. A
frame that claims to be a trade and cannot be decoded is a rejection. Formats as the exchanges document them (2026-11).
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from hybrid_engine.model import Print

_MAX_INT = 2**63 - 1  # what a column of the store holds
_MICROSECONDS = 10**14  # a Unix time above it is not in milliseconds: that would be the year 5138


class Decoded(NamedTuple):
    """Trades in order, with the exchange's own symbol ("" where frames name none); and why others failed."""

    prints: list[Print]
    rejections: list[str]


NOTHING = Decoded([], [])

Frame = dict[str, Any]
Decoder = Callable[[Frame], Decoded]


class _Undecodable(ValueError):
    """A trade that cannot be decoded; the text says which field."""


def decode(decoder: Decoder, payload: bytes) -> Decoded:
    """Decode one frame. Never raises, whatever the bytes."""
    try:
        frame = json.loads(payload.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return Decoded([], [f"not JSON: {type(error).__name__}"])
    return decoder(frame) if isinstance(frame, dict) else NOTHING


def binance(frame: Frame) -> Decoded:
    """Binance spot `trade` and `aggTrade`, raw or in a combined stream."""
    if "stream" in frame and "data" in frame:
        data, stream = frame["data"], frame["stream"]
        if isinstance(data, dict):
            return binance(data) if "stream" not in data else NOTHING
        claims = isinstance(stream, str) and stream.endswith(("@trade", "@aggTrade"))
        return Decoded([], ["data: not an object"]) if claims else NOTHING
    kind = frame.get("e")
    if kind == "trade":
        return _one(frame, _binance_print, "t")
    if kind == "aggTrade":
        return _one(frame, _binance_print, "a")
    return NOTHING


def gemini_v1(frame: Frame) -> Decoded:
    """Gemini v1 market data: `update` messages hold events, some of them trades. The symbol is in the URL only."""
    if frame.get("type") != "update":
        return NOTHING
    events = frame.get("events")
    if not isinstance(events, list):
        return Decoded([], ["events: not a list"])
    prints: list[Print] = []
    rejections: list[str] = []
    for event in events:
        if not isinstance(event, dict):
            rejections.append("events: not objects")
        elif event.get("type") == "trade":
            try:
                time_ms = _time_ms(frame, "timestampms")
                prints.append(Print("", _amount(event, "price"), _amount(event, "amount"), _id(event, "tid"), time_ms))
            except _Undecodable as error:
                rejections.append(str(error))
    return Decoded(prints, rejections)


def gemini_v2(frame: Frame) -> Decoded:
    """Gemini v2 market data: `trade` messages. The `trades` inside `l2_updates` are history, not news."""
    return _one(frame, _gemini_v2_print, "event_id") if frame.get("type") == "trade" else NOTHING


def auto(frame: Frame) -> Decoded:
    """Whichever of the protocols the frame has the shape of; their trade frames have no shape in common."""
    kind = frame.get("type")
    if kind == "update":
        return gemini_v1(frame)
    return gemini_v2(frame) if kind == "trade" else binance(frame)


DECODERS: dict[str, Decoder] = {"auto": auto, "binance": binance, "gemini_v1": gemini_v1, "gemini_v2": gemini_v2}


def _one(frame: Frame, make: Callable[[Frame, str], Print], id_key: str) -> Decoded:
    try:
        return Decoded([make(frame, id_key)], [])
    except _Undecodable as error:
        return Decoded([], [str(error)])


def _binance_print(frame: Frame, id_key: str) -> Print:
    time_key = "T" if "T" in frame else "E"
    return Print(
        _symbol(frame, "s"), _amount(frame, "p"), _amount(frame, "q"), _id(frame, id_key), _time_ms(frame, time_key)
    )


def _gemini_v2_print(frame: Frame, id_key: str) -> Print:
    return Print(
        _symbol(frame, "symbol"),
        _amount(frame, "price"),
        _amount(frame, "quantity"),
        _id(frame, id_key),
        _time_ms(frame, "timestamp"),
    )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _symbol(frame: Frame, key: str) -> str:
    value = frame.get(key, "")
    # JSON can spell half a surrogate pair, which is no text, and which no database takes
    if not isinstance(value, str) or len(value) > 64 or not value.isprintable():
        raise _Undecodable(f"{key}: not a symbol")
    return value


def _amount(frame: Frame, key: str) -> float:
    """A price or a size: a decimal text or a JSON number, finite and above zero."""
    value = frame.get(key)
    if isinstance(value, str):
        # float() is more generous than any exchange: "1_0", " 1", "infinity", digits of other scripts
        if not value.isascii() or "_" in value or value != value.strip():
            raise _Undecodable(f"{key}: not a number")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise _Undecodable(f"{key}: missing" if value is None else f"{key}: not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise _Undecodable(f"{key}: not a number") from None
    if not 0 < number < float("inf"):
        raise _Undecodable(f"{key}: not a positive number")
    return number


def _id(frame: Frame, key: str) -> int | None:
    value = frame.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_INT:
        raise _Undecodable(f"{key}: not a trade id")
    return value


def _time_ms(frame: Frame, key: str) -> int:
    value = frame.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_INT:
        raise _Undecodable(f"{key}: not a time")
    return value // 1000 if value >= _MICROSECONDS else value
