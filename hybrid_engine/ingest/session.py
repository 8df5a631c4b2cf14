"""One connection to a source: what it leads, what it said, and what it heard of symbols that others lead."""

from collections import deque
from collections.abc import Iterator, Sequence, Set
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from hybrid_engine.config.sources import Source
from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import EXCHANGES, Mark, decode
from hybrid_engine.ingest.symbol_names import SymbolNames
from hybrid_engine.runtime.clock import now_ms

if TYPE_CHECKING:
    from hybrid_engine.ingest.connection import Connection

_SYMBOL = itemgetter(0)

# So many trades of a source that stands by are kept, the newest: of each symbol, and in all.
KEPT = 4096
KEPT_IN_ALL = 16384
KEPT_SYMBOLS = 128


class ParsedBatch:
    """What came in one go: trades of symbols the connection leads, numbers that were left out, complaints."""

    __slots__ = ("marks", "moving", "prints", "refused", "rejected", "sensible", "traded")

    def __init__(self) -> None:
        self.prints: list[MarketTrade] = []
        self.marks: list[Sequence[Mark]] = []
        self.rejected: list[tuple[str, bytes]] = []
        self.traded: set[str] = set()
        self.sensible = False
        self.moving = self.refused = ""


class Session:
    """A connection and what is known of it; times in monotonic seconds, those named `_ms` of the wall clock.

    `leads`: symbols whose trades are wanted from it; the others are kept for when it has to take over.
    """

    def __init__(self, source: Source, names: SymbolNames, connection: "Connection") -> None:
        self.source = source
        self.names = names
        self.connection = connection
        self.exchange = EXCHANGES[source.kind]
        self.open = True
        self.fileno = connection.fileno()
        self.began_ms = now_ms()
        self.heard_ms: int | None = None
        self.sensible_at: float | None = None  # the first frame that made sense, or pong
        self.marks: deque[Sequence[Mark]] = deque(maxlen=KEPT)  # of a connection that is to take another one's place
        self.errors_in_a_row = 0
        self.moving = ""
        self.leads: set[str] = set()
        self.strangers: set[str] = set()  # symbols it was not configured for
        self._kept: dict[str, deque[tuple[float, int, MarketTrade]]] = {}
        self._most = max(KEPT_IN_ALL // KEPT_SYMBOLS, min(KEPT, KEPT_IN_ALL // len(names.own)))

    def sort(self, messages: Sequence[bytes], now: float, received_ms: int, limit: int) -> ParsedBatch:
        """Decode, up to the message that makes `limit` undecodable ones in a row; set aside what others lead."""
        heard, exchange, known, name_of = ParsedBatch(), self.exchange, self.names.known, self.names.of
        prints = heard.prints
        # Those that nobody is told to lead come with the rest.
        wanted = self.leads | self.strangers if self.leads else self.leads
        run = exchange.decode_run(messages)
        decoded = zip(messages, run, strict=False) if run else ((one, decode(exchange, one)) for one in messages)
        for message, (trades, rejections, marks, moving, refused) in decoded:
            if trades:
                self.errors_in_a_row = 0
                for theirs, group in groupby(trades, _SYMBOL):
                    name, items = known.get(theirs) or name_of(theirs), list(group)
                    if name != theirs:
                        items = [MarketTrade(name, *item[1:]) for item in items]
                    if name in wanted:
                        heard.traded.add(name)
                        prints += items
                    else:
                        self._set_aside(name, items, now, received_ms, heard)
            if marks:
                heard.marks.append(marks)
            if moving or refused:
                heard.moving, heard.refused = moving or heard.moving, refused or heard.refused
            if not rejections:
                heard.sensible = True
                continue
            for reason in rejections:
                heard.rejected.append((reason, message))
                self.errors_in_a_row += 1
            if self.errors_in_a_row >= limit:
                break
        return heard

    def _set_aside(
        self, name: str, items: Sequence[MarketTrade], now: float, received_ms: int, heard: ParsedBatch
    ) -> None:
        heard.traded.add(name)
        if name not in self.names.own:
            self.strangers.add(name)
            if self.leads:  # nobody is told to lead it: it comes with the rest
                heard.prints += items
                return
        kept = self._kept.get(name)
        if kept is None:
            if len(self._kept) >= KEPT_SYMBOLS:
                return
            kept = self._kept[name] = deque(maxlen=self._most)
        kept.extend((now, received_ms, item) for item in items)

    def inherit(self, old: "Session") -> None:
        """It takes the place of `old`, which stood by: what that one kept, and what came here alone."""
        for symbol, entries in old._kept.items():
            known = {item for _, _, item in entries}
            news = [entry for entry in self._kept.get(symbol, ()) if entry[2] not in known]
            self._kept[symbol] = deque([*entries, *news], maxlen=self._most)

    def kept(
        self, symbol: str, after: float, taken: Set[MarketTrade] = frozenset()
    ) -> Iterator[tuple[int, list[MarketTrade]]]:
        """What was kept of `symbol` and heard after that moment, as it came: (received_ms, trades). Kept no longer.

        Where some of it was `taken` from another source, both hear one exchange: then it is what came behind that.
        """
        entries = list(self._kept.pop(symbol, ()))
        both = [at for at, (_, _, item) in enumerate(entries) if item in taken] if taken else []
        news = entries[both[-1] + 1 :] if both else [entry for entry in entries if entry[0] > after]
        for received_ms, group in groupby(news, key=itemgetter(1)):
            yield received_ms, [item for _, _, item in group]
