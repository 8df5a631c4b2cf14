"""What an exchange's symbols are called here."""

from hybrid_engine.config.sources import Source
from hybrid_engine.domain.deduplication import MAX_STRANGERS, MAX_SYMBOLS
from hybrid_engine.exchanges import plain
from hybrid_engine.runtime.log import Logger

log = Logger("hybrid_engine.ingest")


class SymbolNames:
    """Of one source. `own`: the symbols it was configured for; `default`: what is meant where a frame names none."""

    def __init__(self, source: Source, app_symbol: str) -> None:
        self.own = source.symbols or (app_symbol,)
        self._source = source
        # theirs, spelled plainly -> ours
        self._expected = {plain(symbol): symbol for symbol in self.own}
        in_url = source.exchange.named(source.url)
        only = in_url[0] if len(in_url) == 1 else ""
        if only and len(source.symbols) == 1:  # BTCUSDT in the URL of a source for BTC/USD is what it calls that
            self._expected[only] = self.own[0]
        self.default = self._expected.get(only, only) or self.own[0]
        self._asked = set(in_url)
        self.known: dict[str, str] = {"": self.default}
        self._strangers = 0

    def of(self, theirs: str) -> str:
        """Our name. A symbol that this source was not configured for keeps its own; too many of them have none ("")."""
        name = self.known.get(theirs)
        return self._find(theirs) if name is None else name

    def _find(self, theirs: str) -> str:
        name = self._expected.get(plain(theirs), "")
        if not name and theirs not in self._asked:
            if self._strangers >= MAX_STRANGERS:
                return ""
            self._strangers += 1
        if self._source.symbols and not name:
            log.warn("unexpected symbol, kept under its own name", source=self._source.name, symbol=theirs)
        if len(self.known) < 2 * MAX_SYMBOLS:  # one name can be spelled in many ways
            self.known[theirs] = name or theirs
        return name or theirs

    def owned(self, theirs: str) -> str:
        """The symbol that it was configured for and that stands for this one: its own, or the first."""
        name = self.of(theirs)
        return name if name in self.own else self.own[0]
