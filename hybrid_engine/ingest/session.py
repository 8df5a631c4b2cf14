"""What one connection to a source is called and when it was heard."""

import time
from urllib.parse import parse_qs, urlsplit

from hybrid_engine.ingest.exchanges import EXCHANGES, plain
from hybrid_engine.journal import Journal
from hybrid_engine.model import Print
from hybrid_engine.sources import Source
from hybrid_engine.store import now_ms

log = Journal("hybrid_engine.ingest")


class Session:
    """One connection's worth of names and times."""

    def __init__(self, source: Source, app_symbol: str) -> None:
        self.source = source
        self.exchange = EXCHANGES[source.kind]
        url_symbol = _url_symbol(source.url)
        configured = source.symbols or (app_symbol,)
        # theirs, spelled plainly -> ours
        self._expected = {plain(symbol): symbol for symbol in configured}
        if url_symbol and len(source.symbols) == 1:
            self._expected[url_symbol] = configured[0]
        self.default_symbol = self._expected.get(url_symbol, url_symbol) if url_symbol else configured[0]
        self.symbols: set[str] = set()
        self.began_ms = now_ms()
        self.heard_ms: int | None = None
        self.errors_in_a_row = 0
        self._first_heard = self._last_heard = 0.0
        self._names: dict[str, str] = {"": self.default_symbol}

    def hear(self, received_ms: int) -> None:
        """A frame came that says something."""
        self._last_heard = time.monotonic()
        self._first_heard = self._first_heard or self._last_heard
        self.heard_ms = received_ms

    @property
    def useful_s(self) -> float:
        """Seconds between the first and the last frame that said something."""
        return self._last_heard - self._first_heard

    def named(self, item: Print) -> Print:
        """The print under the symbol it has here. A symbol this source was not configured for keeps its own name."""
        name = self._names.get(item.symbol)
        if name is None:
            known = self._expected.get(plain(item.symbol))
            name = self._names[item.symbol] = known or item.symbol
            if self.source.symbols and not known:
                log.warn("unexpected symbol, kept under its own name", source=self.source.name, symbol=item.symbol)
        self.symbols.add(name)
        return item if name == item.symbol else item._replace(symbol=name)


def _url_symbol(url: str) -> str:
    """The one symbol that a URL names (/ws/btcusdt@trade, ?streams=btcusdt@trade, /v1/marketdata/btcusd), or ""."""
    parts = urlsplit(url)
    streams = parse_qs(parts.query).get("streams", [""])[0] or parts.path.removeprefix("/ws/").removeprefix("/stream")
    last = streams.removeprefix("/v1/marketdata/")
    return "" if "/" in last.strip("/") else plain(last.split("@")[0])
