"""What an exchange's symbols are called here."""

from urllib.parse import parse_qs, urlsplit

from hybrid_engine.ingest.exchanges import plain
from hybrid_engine.journal import Journal
from hybrid_engine.recent import MAX_STRANGERS
from hybrid_engine.sources import Source

log = Journal("hybrid_engine.ingest")


class Names:
    """Of one source. `own`: the symbols it was configured for; `default`: what is meant where a frame names none."""

    def __init__(self, source: Source, app_symbol: str) -> None:
        self.own = source.symbols or (app_symbol,)
        self._source = source
        # theirs, spelled plainly -> ours
        self._expected = {plain(symbol): symbol for symbol in self.own}
        in_url = _url_symbols(source.url)
        only = in_url[0] if len(in_url) == 1 else ""
        if only and len(source.symbols) == 1:  # BTCUSDT in the URL of a source for BTC/USD is what it calls that
            self._expected[only] = self.own[0]
        self.default = self._expected.get(only, only) or self.own[0]
        self._known: dict[str, str] = {"": self.default}
        self._strangers = 0

    def of(self, theirs: str) -> str:
        """Our name. A symbol that this source was not configured for keeps its own; too many of them have none ("")."""
        name = self._known.get(theirs)
        if name is None:
            expected = self._expected.get(plain(theirs))
            if not expected:
                if self._strangers >= MAX_STRANGERS:
                    return ""
                self._strangers += 1
            name = self._known[theirs] = expected or theirs
            if self._source.symbols and not expected:
                log.warn("unexpected symbol, kept under its own name", source=self._source.name, symbol=theirs)
        return name

    def owned(self, theirs: str) -> str:
        """The symbol that it was configured for and that stands for this one: its own, or the first."""
        name = self.of(theirs)
        return name if name in self.own else self.own[0]


def _url_symbols(url: str) -> list[str]:
    """The symbols that a URL names, in order: /ws/btcusdt@trade, ?streams=btcusdt@trade/ethusdt@trade,
    /v1/marketdata/btcusd."""
    parts = urlsplit(url)
    streams = parse_qs(parts.query).get("streams", [""])[0] or parts.path.removeprefix("/ws/").removeprefix("/stream")
    named = streams.removeprefix("/v1/marketdata/").strip("/").split("/")
    return [name for name in dict.fromkeys(plain(one.split("@")[0]) for one in named) if name]
