"""What is stored, compared with what the exchanges sent, row by row: every column of a tick that comes from the
exchange, the order of the rows, and what the strategy and the execution made of them.

Both sides are raw outputs of the recording, so the verifier compares them once more.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from proofs.catalog._checks import at_least
from proofs.experiment.exchange import Exchange
from proofs.experiment.measurements import Count
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Trace
from proofs.verdict import Check, Json

LEAST = 1000  # rows, so that one wrong in 1,000 is among them
SIGNAL_EVERY = 10  # the engine's default of signal_every_n_ticks
# What the engine calls the market of each source: as its configuration does, or without one there as the exchange does.
_SYMBOLS = {"mock": "BTCUSDT", "primary": "BTC/USD", "secondary": "BTC/USD"}
_KIND = "rows stored"
_SQL = """
SELECT t.run_id, t.source, t.symbol, t.exchange_id, t.price, t.size, t.exchange_ms,
 s.symbol AS signal_symbol, s.side AS signal_side,
 o.symbol AS order_symbol, o.side AS order_side, o.price AS order_price, o.size AS order_size, o.status,
 r.symbol AS trade_symbol, r.side AS trade_side, r.price AS trade_price, r.size AS trade_size
 FROM ticks t LEFT JOIN signals s ON s.tick_id = t.id LEFT JOIN orders o ON o.signal_id = s.id
 LEFT JOIN trades r ON r.order_id = o.id ORDER BY t.id
"""


class SentTrade(NamedTuple):
    """One trade as an exchange sent it; price and size as decimal texts, time_ms in ms UTC."""

    connection: int
    trade_id: int
    price: str
    size: str
    time_ms: int


class StoredRow(NamedTuple):
    """A tick with the signal, order and trade that it caused; None where there is none."""

    run: int
    source: str
    symbol: str
    exchange_id: int | None
    price: float
    size: float
    exchange_ms: int
    signal_symbol: str | None
    signal_side: str | None
    order_symbol: str | None
    order_side: str | None
    order_price: float | None
    order_size: float | None
    status: str | None
    trade_symbol: str | None
    trade_side: str | None
    trade_price: float | None
    trade_size: float | None


Sent = Mapping[str, Sequence[SentTrade]]  # by the source's name, in the order of sending


@dataclass(frozen=True)
class SourceRows:
    """Rows of one source. missing: trades that it sent between two stored ones of the same connection."""

    stored: Count
    missing: Count


@dataclass(frozen=True)
class Rows:
    """compared: rows, each with what its source sent. difference: the first one; "" without one. chains: the same of
    signals, orders and trades, each compared with its tick; signals: how many."""

    compared: Count
    difference: str
    sources: dict[str, SourceRows]
    signals: Count
    chains: str

    def missing(self) -> int:
        return sum(one.missing for one in self.sources.values())


def record_rows(subject: Subject, exchanges: Mapping[str, Exchange]) -> tuple[Sent, list[StoredRow]]:
    """Record what these exchanges sent and what the store has; the engine should be stopped. Returns both."""
    lines = "\n".join(json.dumps(list(row.values())) for row in subject.store.rows(_SQL))
    subject.host.recorder.write(_KIND, scope=subject.host.scope, stdout=lines)
    return {name: _trades(one.record_trades()) for name, one in exchanges.items()}, _rows(lines)


def trace_rows(trace: Trace, names: Iterable[str]) -> tuple[Sent, list[StoredRow]]:
    """Both as they were recorded. Raises Untraced."""
    sent = {name: _trades(trace.whole(trace.event("trades sent", name))) for name in names}
    return sent, _rows(trace.whole(trace.event(_KIND)))


def _trades(lines: str) -> list[SentTrade]:
    return [SentTrade(*json.loads(line)) for line in lines.splitlines()]


def _rows(lines: str) -> list[StoredRow]:
    return [StoredRow(*json.loads(line)) for line in lines.splitlines()]


def ids_of(rows: Sequence[StoredRow], run: Mapping[str, Json]) -> list[int | None]:
    """The exchange's numbers of the trades that this run stored, in the order of its ticks."""
    return [row.exchange_id for row in rows if row.run == run["id"]]


def compare(sent: Sent, rows: Sequence[StoredRow], signal_every: int = SIGNAL_EVERY) -> Rows:
    """Compare each row with the trade that its source sent under that id.

    A row that is stored twice, out of order, or that no exchange sent is a difference; trades that are not stored are
    counted, as it depends on the fault which of them are due.
    """
    places = {name: {one.trade_id: place for place, one in enumerate(trades)} for name, trades in sent.items()}
    found: dict[str, list[int]] = {name: [] for name in sent}
    difference = ""
    for number, row in enumerate(rows, 1):
        place = places.get(row.source, {}).get(row.exchange_id if row.exchange_id is not None else -1)
        if place is None:
            difference = difference or f"row {number}: {row.source} sent no trade {row.exchange_id}"
            continue
        trade, before = sent[row.source][place], found[row.source]
        difference = difference or _difference(number, trade, row)
        if before and place <= before[-1]:
            difference = difference or f"row {number}: trade {row.exchange_id} again or out of order"
        else:
            before.append(place)
    signals, chains = _compare_chains(rows, signal_every)
    return Rows(
        len(rows), difference, {name: _source(found[name], trades) for name, trades in sent.items()}, signals, chains
    )


def _difference(number: int, trade: SentTrade, row: StoredRow) -> str:
    """The first column of a row that is not as it was sent."""
    pairs = (
        ("symbol", _SYMBOLS[row.source], row.symbol),
        ("price", float(trade.price), row.price),
        ("size", float(trade.size), row.size),
        ("exchange_ms", trade.time_ms, row.exchange_ms),
    )
    for column, due, stored in pairs:
        if due != stored:
            return f"row {number}, trade {trade.trade_id}: {column} sent {due!r}, stored {stored!r}"
    return ""


def _source(places: Sequence[int], trades: Sequence[SentTrade]) -> SourceRows:
    pairs = [(one, two) for one, two in pairwise(places) if trades[one].connection == trades[two].connection]
    return SourceRows(len(places), sum(two - one - 1 for one, two in pairs))


def _compare_chains(rows: Sequence[StoredRow], signal_every: int) -> tuple[int, str]:
    """How many signals there are, and the first that is not due, is missing, or not of its tick.

    The strategy is deterministic: a signal at every n-th tick of a run, BUY and SELL in turn.
    """
    difference, signals, ticks = "", 0, 0
    for number, row in enumerate(rows, 1):
        ticks = 1 if number == 1 or row.run != rows[number - 2].run else ticks + 1
        nth, rest = divmod(ticks, signal_every)
        signals += row.signal_side is not None
        side = ("SELL", "BUY")[nth % 2] if rest == 0 else None
        if row.signal_side != side:
            difference = difference or f"row {number}: signal {row.signal_side}, due {side}"
        elif side:
            difference = difference or _chain_difference(number, side, row)
    return signals, difference


def _chain_difference(number: int, side: str, row: StoredRow) -> str:
    order = row.order_symbol, row.order_side, row.order_price
    trade = row.trade_symbol, row.trade_side, row.trade_price
    due = row.symbol, side, row.price
    if row.signal_symbol != row.symbol:
        return f"row {number}: signal of {row.signal_symbol}"
    if order != due:
        return f"row {number}: order {order}, due {due}"
    if row.status == "FILLED" and (*trade, row.trade_size) != (*due, row.order_size):
        return f"row {number}: trade {(*trade, row.trade_size)}, due {(*due, row.order_size)}"
    return ""


def row_checks(rows: Rows, least: int = LEAST) -> list[Check]:
    """The checks that every proof with an exchange has in common."""
    return [
        at_least("rows compared", rows.compared, least, guard=True),
        Check("rows as sent", rows.difference or "all", "all", not rows.difference, guard=True),
        Check("signals, orders, trades of their ticks", rows.chains or "all", "all", not rows.chains, guard=True),
    ]
