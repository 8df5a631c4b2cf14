"""Binance spot: `/ws/{symbol}@trade`, `@aggTrade`, several joined by `/`, and combined `/stream?streams=`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from proofs.mock_exchange.protocols.base import ExchangeProtocol, Frame, RecordedTrade, Trade, UnknownPathError, dump

TRADE_KINDS = ("trade", "aggTrade")
_EVENT_AFTER_MS = 3  # E, when the trade is told, after T, when it took place: so a test sees which of them is stored


class Binance(ExchangeProtocol):
    """Streams as the path names them. Times are ms, or us with `timeUnit=MICROSECOND`."""

    family = "binance"
    paths: ClassVar = {
        "binance": "/ws/{s}@trade",
        "binance_agg": "/ws/{s}@aggTrade",
        "binance_combined": "/stream?streams={s}@trade/{s}@aggTrade",
    }
    price_key = "p"

    @classmethod
    def serves(cls, path: str) -> bool:
        return path.startswith("/ws/") or path.rstrip("/") == "/stream"

    @staticmethod
    def parse_recorded(frame: Mapping[str, Any]) -> list[RecordedTrade] | None:
        data = frame.get("data", frame)
        if not isinstance(data, dict):
            return None
        if data.get("e") in TRADE_KINDS:
            return [(data["p"], data["q"], "sell" if data["m"] else "buy", data["s"])]
        # The book ticker is the one stream without "e".
        return [] if "e" in data or {"u", "s", "b", "a"} <= data.keys() else None

    def __init__(self, target: str, trades_per_frame: int = 1) -> None:
        super().__init__(target, trades_per_frame)
        url = urlsplit(target)
        query = parse_qs(url.query)
        self.combined = url.path.rstrip("/") == "/stream"
        named = ",".join(query.get("streams", [])) if self.combined else unquote(url.path).removeprefix("/ws/")
        streams = [part for part in named.split("/") if part]
        if not streams or any("@" not in stream for stream in streams):
            raise UnknownPathError(f"no stream like btcusdt@trade in {target!r}")
        self._scale = 1000 if query.get("timeUnit", [""])[0].lower() == "microsecond" else 1
        #: (symbol in capitals, kind, stream) of each stream of trades
        self._trading = [
            (symbol.upper(), kind, f"{symbol}@{kind}")
            for symbol, _, kind in (stream.partition("@") for stream in streams)
            if kind in TRADE_KINDS
        ]
        self.symbols = list(dict.fromkeys(symbol for symbol, _, _ in self._trading))
        self._noise_symbol = self.symbols[0] if self.symbols else streams[0].partition("@")[0].upper()

    def _stream_for(self, trade: Trade) -> tuple[str, str, str]:
        own = [one for one in self._trading if one[0] == trade.symbol] or self._trading
        return own[(trade.number - 1) % len(own)]

    def symbol_for(self, trade: Trade) -> str:
        return self._stream_for(trade)[0]

    def message(self, trades: Sequence[Trade]) -> tuple[Frame, Frame]:
        (trade,) = trades
        symbol, kind, stream = self._stream_for(trade)
        time, number = trade.time_ms * self._scale, trade.trade_id
        told = time + _EVENT_AFTER_MS * self._scale
        data: Frame = {"e": kind, "E": told, "s": symbol, "a" if kind == "aggTrade" else "t": number}
        data |= {"p": trade.price, "q": trade.size}
        if kind == "aggTrade":
            data |= {"f": number, "l": number}
        data |= {"T": time, "m": trade.taker == "sell", "M": True}
        return ({"stream": stream, "data": data} if self.combined else data), data

    def noise(self, recorded: Mapping[str, Any], now_ms: int) -> str | None:
        symbol = self._noise_symbol
        data = {**recorded.get("data", recorded), "s": symbol}
        data |= {key: now_ms * self._scale for key in ("E", "T") if key in data}
        if isinstance(data.get("k"), dict):
            data["k"] = {**data["k"], "s": symbol}
        if not self.combined:
            return dump(data)
        kind = str(recorded.get("stream", "x@bookTicker")).partition("@")[2]
        return dump({"stream": f"{symbol.lower()}@{kind}", "data": data})

    def closing_notice(self, now_ms: int) -> str | None:
        notice: Frame = {"e": "serverShutdown", "E": now_ms * self._scale}
        return dump({"stream": self._trading[0][2], "data": notice} if self.combined and self._trading else notice)
