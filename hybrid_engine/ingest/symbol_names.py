"""Translates an exchange's symbols into the names that the configuration gives them."""

from hybrid_engine.config.sources import Source
from hybrid_engine.domain.deduplication import MAX_SYMBOLS, MAX_UNKNOWN_SYMBOLS
from hybrid_engine.exchanges import normalize_symbol
from hybrid_engine.runtime.log import Logger

log = Logger("hybrid_engine.ingest")


class SymbolNames:
    """The names of one source. `own`: the configured symbols; `default`: the symbol of a frame that names none."""

    def __init__(self, source: Source, app_symbol: str) -> None:
        self.own = source.symbols or (app_symbol,)
        self._source = source
        # the exchange's symbol without separators -> the configured name
        self._configured = {normalize_symbol(symbol): symbol for symbol in self.own}
        in_url = source.exchange.symbols_in_url(source.url)
        only = in_url[0] if len(in_url) == 1 else ""
        if only and len(source.symbols) == 1:  # the URL of a source for BTC/USD may name BTCUSDT
            self._configured[only] = self.own[0]
        self.default = self._configured.get(only, only) or self.own[0]
        self._in_url = set(in_url)
        self.cache: dict[str, str] = {"": self.default}
        self._unknown_count = 0

    def local_name(self, exchange_symbol: str) -> str:
        """The configured name, or else the exchange's own symbol; "" for unknown symbols beyond MAX_STRANGERS."""
        name = self.cache.get(exchange_symbol)
        return self._look_up(exchange_symbol) if name is None else name

    def _look_up(self, exchange_symbol: str) -> str:
        name = self._configured.get(normalize_symbol(exchange_symbol), "")
        if not name and exchange_symbol not in self._in_url:
            if self._unknown_count >= MAX_UNKNOWN_SYMBOLS:
                return ""
            self._unknown_count += 1
        if self._source.symbols and not name:
            log.warn("unexpected symbol, kept under its own name", source=self._source.name, symbol=exchange_symbol)
        if len(self.cache) < 2 * MAX_SYMBOLS:  # an exchange may spell one symbol in many ways
            self.cache[exchange_symbol] = name or exchange_symbol
        return name or exchange_symbol

    def own_symbol(self, exchange_symbol: str) -> str:
        """The configured symbol for this one; the first of them where it is unknown."""
        name = self.local_name(exchange_symbol)
        return name if name in self.own else self.own[0]
