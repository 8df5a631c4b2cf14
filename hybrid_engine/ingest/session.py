"""One open connection to a source: decodes its frames and keeps the trades of symbols that another source provides."""

from collections import deque
from collections.abc import Iterator, Sequence, Set
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from hybrid_engine.config.sources import Source
from hybrid_engine.domain.deduplication import MAX_SYMBOLS, MAX_UNKNOWN_SYMBOLS
from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import EXCHANGES, Mark, Refusal, decode, normalize_symbol
from hybrid_engine.ingest.subscription import Subscription
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.log import Logger

if TYPE_CHECKING:
    from hybrid_engine.ingest.connection import Connection

log = Logger("hybrid_engine.ingest")

_SYMBOL = itemgetter(0)
# How many standby trades are kept, the newest: of each symbol, in total, and of how many symbols.
MAX_KEPT_PER_SYMBOL = 4096
MAX_KEPT = 16384
MAX_KEPT_SYMBOLS = 128
# How many trades from before a subscription are looked at of one message: more than any exchange sends.
MAX_HISTORY = 1000


class SymbolNames:
    """The names of one source. `own`: the symbols that it is for; `default`: the symbol of a frame that names none.

    `named`: whether the source or its URL names them; else `own` is the engine's symbol, and any may come.
    """

    def __init__(self, source: Source, app_symbol: str) -> None:
        self.own = source.watched_symbols(app_symbol)
        self._source = source
        # the exchange's symbol without separators -> the configured name
        self._configured = {normalize_symbol(symbol): symbol for symbol in self.own}
        in_url = source.exchange.symbols_in_url(source.url)
        only = in_url[0] if len(in_url) == 1 else ""
        if only and len(source.symbols) == 1:  # the URL of a source for BTC/USD may name BTCUSDT
            self._configured[only] = self.own[0]
        self.default = self._configured.get(only, only) or self.own[0]
        self._in_url = set(in_url)
        self.named = bool(source.symbols or in_url)
        self.cache: dict[str, str] = {"": self.default}
        self._unknown_count = 0

    def local_name(self, exchange_symbol: str) -> str:
        """The configured name, or else the exchange's own symbol; "" for unknown symbols beyond MAX_UNKNOWN_SYMBOLS."""
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


class ParsedBatch:
    """The content of the messages of one read. `trades`: those of active symbols, and of unknown ones beside them.

    `valid`: a message of a known type decoded; `unknown`: the last one of another type; `rejections`: the reason and
    the message; `closing_reason`, `refusals`, `acknowledged`: as in `Decoded`; `history` too, each with the exchange's
    own symbol.
    """

    __slots__ = (
        "acknowledged",
        "closing_reason",
        "history",
        "marks",
        "refusals",
        "rejections",
        "traded_symbols",
        "trades",
        "unknown",
        "valid",
    )

    def __init__(self) -> None:  # one for each read: that of a dataclass takes a third longer
        self.trades: list[MarketTrade] = []
        self.marks: list[Sequence[Mark]] = []
        self.rejections: list[tuple[str, bytes]] = []
        self.traded_symbols: set[str] = set()
        self.refusals: list[Refusal] = []
        self.acknowledged: list[str] = []
        self.history: list[tuple[str, MarketTrade]] = []
        self.valid = False
        self.unknown = b""
        self.closing_reason = ""


class Session:
    """A connection and its decoding state. Times are monotonic seconds; those named `_ms` are wall-clock milliseconds.

    `subscription`: what it was asked for, and the answer. `first_valid_at`, `marks`: of a successor, the first valid
    frame or pong, and the sequence numbers to observe once it replaces the connection in use. `unknown_symbols`:
    symbols with trades that the source is not configured for. `continued`: the symbols that no other source provided
    since the connection before.
    """

    def __init__(
        self, source: Source, names: SymbolNames, connection: "Connection", asked: Sequence[str], now: float
    ) -> None:
        self.names = names
        self.subscription = Subscription(source.exchange, asked, now)
        self.connection = connection
        self.exchange = EXCHANGES[source.kind]
        self.open = True
        self.fileno = connection.fileno()
        self.connected_ms = now_ms()
        self.first_valid_at: float | None = None
        self.marks: deque[Sequence[Mark]] = deque(maxlen=MAX_KEPT_PER_SYMBOL)
        self.errors_in_a_row = 0
        self.closing_reason = ""
        self.unknown_symbols: set[str] = set()
        self.continued: frozenset[str] = frozenset()
        self._standby_trades: dict[str, deque[tuple[float, int, MarketTrade]]] = {}
        self._max_kept = max(MAX_KEPT // MAX_KEPT_SYMBOLS, min(MAX_KEPT_PER_SYMBOL, MAX_KEPT // len(names.own)))

    def parse(
        self, messages: Sequence[bytes], active_symbols: Set[str], now: float, received_ms: int, limit: int
    ) -> ParsedBatch:
        """Decode `messages`, up to the one that makes `limit` undecodable ones in a row.

        Trades of symbols that are not in `active_symbols` are kept for a failover. No source is active for an unknown
        symbol: its trades are accepted while the source is active for any other.
        """
        batch, exchange, name_cache, name_of = ParsedBatch(), self.exchange, self.names.cache, self.names.local_name
        trades_of_batch = batch.trades
        accepted = active_symbols | self.unknown_symbols if active_symbols else active_symbols
        run = exchange.decode_run(messages)
        decoded = zip(messages, run, strict=False) if run else ((one, decode(exchange, one)) for one in messages)
        for message, (trades, rejections, marks, closing_reason, refusals, acknowledged, known, history) in decoded:
            if trades:
                self.errors_in_a_row = 0
                for symbol, group in groupby(trades, _SYMBOL):
                    name, items = name_cache.get(symbol) or name_of(symbol), list(group)
                    if name != symbol:
                        items = [MarketTrade(name, *item[1:]) for item in items]
                    batch.traded_symbols.add(name)
                    if name in accepted or self._accept_unknown(name, active_symbols):
                        trades_of_batch += items
                    else:
                        self._keep(name, items, now, received_ms)
            if marks:
                batch.marks.append(marks)
            if closing_reason:
                batch.closing_reason = closing_reason
            if refusals or acknowledged:
                batch.refusals += refusals
                batch.acknowledged += acknowledged
            if history:
                batch.history += [
                    (one.symbol, one._replace(symbol=name_of(one.symbol))) for one in history[-MAX_HISTORY:]
                ]
            if not rejections:
                if not known:
                    batch.unknown = message
                elif not refusals:
                    batch.valid = True
                continue
            for reason in rejections:
                batch.rejections.append((reason, message))
                self.errors_in_a_row += 1
            if self.errors_in_a_row >= limit:
                break
        return batch

    def _accept_unknown(self, name: str, active_symbols: Set[str]) -> bool:
        if name in self.names.own:
            return False
        self.unknown_symbols.add(name)
        return bool(active_symbols)

    def _keep(self, name: str, trades: Sequence[MarketTrade], now: float, received_ms: int) -> None:
        if name not in self._standby_trades and len(self._standby_trades) >= MAX_KEPT_SYMBOLS:
            return
        kept = self._standby_trades.setdefault(name, deque(maxlen=self._max_kept))
        kept.extend((now, received_ms, trade) for trade in trades)

    def inherit_standby_trades(self, old: "Session") -> None:
        """Add to the trades that `old` kept those that only this connection received."""
        for symbol, entries in old._standby_trades.items():
            known = {trade for _, _, trade in entries}
            new = [entry for entry in self._standby_trades.get(symbol, ()) if entry[2] not in known]
            self._standby_trades[symbol] = deque([*entries, *new], maxlen=self._max_kept)

    def pop_standby_trades(
        self, symbol: str, after: float, accepted: Set[MarketTrade] = frozenset()
    ) -> Iterator[tuple[int, list[MarketTrade]]]:
        """Remove the kept trades of `symbol`; yield (received_ms, trades) of those received after `after`.

        Where some of them were `accepted` from another source, both sources serve one exchange: then yield the trades
        behind the last accepted one.
        """
        entries = list(self._standby_trades.pop(symbol, ()))
        common = [at for at, (_, _, trade) in enumerate(entries) if trade in accepted] if accepted else []
        new = entries[common[-1] + 1 :] if common else [entry for entry in entries if entry[0] > after]
        for received_ms, group in groupby(new, key=itemgetter(1)):
            yield received_ms, [trade for _, _, trade in group]
