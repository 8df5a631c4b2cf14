"""`hybrid-engine export`: reads the rows of a table, or minute bars, page by page, and writes them in a format.

Each page is a read of its own, of a range of ids, so the log of a running engine can be restarted between two, and the
memory is that of a page however long the table is. Times have no index: rows outside the interval are read past.
"""

import re
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hybrid_engine.runtime.errors import ConfigError, StorageError
from hybrid_engine.runtime.progress import Progress
from hybrid_engine.storage.database import read_snapshot
from hybrid_engine.storage.formats import FORMATS, Row
from hybrid_engine.storage.new_file import new_file

PAGE_ROWS = 2000  # a few milliseconds
MINUTE_MS = 60_000
# Ticks whose time is that far behind the newest still count for their bar: the host's clock may have been set back.
LATE_MINUTES = 60

BARS = "bars"
# The condition of the interval by table. Of gaps all that touch it, one that is open included.
_WITHIN = {
    "ticks": ("received_ms >= ?", "received_ms < ?"),
    "gaps": ("(from_ms >= ?1 OR to_ms > ?1 OR to_ms IS NULL)", "from_ms < ?"),
    "orders": ("created_ms >= ?", "created_ms < ?"),
    "trades": ("created_ms >= ?", "created_ms < ?"),
}
TABLES = (*_WITHIN, BARS)
_BAR_COLUMNS = {
    "minute_ms": "INTEGER",
    "symbol": "TEXT",
    **dict.fromkeys(("open", "high", "low", "close", "volume"), "REAL"),
    "count": "INTEGER",
}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_RFC_3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_MAX_MS = 2**63 - 1


class Selection(NamedTuple):
    """The rows of `table` with a time in [from_ms, to_ms), of these symbols; None and () do not restrict.

    The time is that at which the host received the tick. Of gaps, those that touch the interval; a gap without a
    symbol concerns every symbol.
    """

    table: str
    from_ms: int | None = None
    to_ms: int | None = None
    symbols: tuple[str, ...] = ()


def parse_time(option: str, text: str) -> int:
    """Milliseconds UTC of an RFC 3339 time, of a date (its midnight UTC), or as a number. Raises ConfigError."""
    where = f"command line: {option} {text}"
    if text.isascii() and text.isdecimal():
        if len(text) > 19 or int(text) > _MAX_MS:
            raise ConfigError(f"{where}: is too large a number of milliseconds")
        return int(text)
    try:
        if _DATE.fullmatch(text):
            moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        elif _RFC_3339.fullmatch(text):
            moment = datetime.fromisoformat(text.upper())
        else:
            allowed = "2026-01-31, 2026-01-31T12:00:00Z or milliseconds since 1970"
            raise ConfigError(f"{where}: must be a time with its zone, a date or milliseconds: {allowed}")
    except ValueError as error:
        raise ConfigError(f"{where}: is no time: {error}") from None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def parse_selection(table: str, begin: str | None, end: str | None, symbols: Sequence[str]) -> Selection:
    """The selection of the command line. Raises ConfigError."""
    from_ms = None if begin is None else parse_time("--from", begin)
    to_ms = None if end is None else parse_time("--to", end)
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise ConfigError(f"command line: --from {begin} --to {end}: nothing is in between; --to must be later")
    for symbol in symbols:
        if not symbol or "\x00" in symbol or any("\ud800" <= c <= "\udfff" for c in symbol):
            raise ConfigError(f"command line: --symbol {symbol!a}: must be a symbol as it is stored, such as BTC/USD")
    return Selection(table, from_ms, to_ms, tuple(dict.fromkeys(symbols)))


def export(database: Path, selection: Selection, form: str, path: Path | None) -> None:
    """Write the rows in the format `form` to the new file `path`, or to stdout.

    Raises ConfigError, StorageError, OverloadError; BrokenPipeError where nobody reads stdout any more.
    """
    write = FORMATS[form]
    if path is None:
        if form == "parquet":
            raise ConfigError("command line: --format parquet: needs a file, --output FILE")
        columns, pages = read(database, selection)
        try:
            write(sys.stdout.buffer, columns, pages)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StorageError(f"stdout: cannot be written: {error.strerror}") from error
        return
    progress, count = Progress(), 0

    def counted(pages: Iterable[Sequence[Row]]) -> Iterator[Sequence[Row]]:
        nonlocal count
        for page in pages:
            count += len(page)
            progress.show(f"{path}: {count} rows")
            yield page

    with new_file(path, database) as draft:
        columns, pages = read(database, selection)
        try:
            with draft.open("wb") as file:
                write(file, columns, counted(pages))
        except OSError as error:
            raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    progress.finish(f"{path}: {count} rows")


def read(
    database: Path, selection: Selection, page_rows: int = PAGE_ROWS
) -> tuple[dict[str, str], Iterator[Sequence[Row]]]:
    """The columns with their types, INTEGER, REAL or TEXT, and the rows page by page, in the order of ids.

    Bars are in the order of minutes, and of symbols within one. Raises StorageError and OverloadError, also while the
    pages are read.
    """
    if selection.table == BARS:
        columns = ("symbol", "price", "size", "received_ms")
        return _BAR_COLUMNS, _fold(read_rows(database, selection._replace(table="ticks"), columns, page_rows))
    query = "SELECT name, type FROM pragma_table_info(?)"
    types = dict(read_snapshot(database, lambda con: con.execute(query, (selection.table,)).fetchall()))
    return types, read_rows(database, selection, tuple(types), page_rows)


def read_rows(database: Path, selection: Selection, columns: Sequence[str], page_rows: int) -> Iterator[Sequence[Row]]:
    """The rows that are there when it begins; a page looks at `page_rows` of them, and has those that are selected."""
    table = selection.table
    # Each in a query of its own: for both at once SQLite reads the whole table.
    ends = f"SELECT coalesce((SELECT min(id) FROM {table}), 1) - 1, coalesce((SELECT max(id) FROM {table}), 0)"
    done, last = read_snapshot(database, lambda con: con.execute(ends).fetchone())
    conditions: list[str] = []
    values: list[object] = []
    for condition, value in zip(_WITHIN[table], (selection.from_ms, selection.to_ms), strict=True):
        if value is not None:
            values.append(value)
            conditions.append(re.sub(r"\?1?", f"?{len(values)}", condition))
    if selection.symbols:
        symbols = [*selection.symbols, *([""] if table == "gaps" else [])]
        numbers = [f"?{len(values) + number}" for number in range(1, len(symbols) + 1)]
        values += symbols
        conditions.append(f"symbol IN ({', '.join(numbers)})")
    first = len(values) + 1
    where = " AND ".join([*conditions, f"id > ?{first}", f"id <= ?{first + 1}"])
    query = f"SELECT {', '.join(columns)} FROM {table} WHERE {where} ORDER BY id"
    page_end = f"SELECT max(id) FROM (SELECT id FROM {table} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)"

    def read_page(con: sqlite3.Connection) -> tuple[int, list[Row]]:
        (end,) = con.execute(page_end, (done, last, page_rows)).fetchone()
        if end is None:  # the rest was deleted meanwhile: retention
            return last, []
        return end, con.execute(query, (*values, done, end)).fetchall()

    while done < last:
        done, rows = read_snapshot(database, read_page)
        yield rows


class _Bar:
    __slots__ = ("close", "count", "high", "low", "open", "volume")

    def __init__(self, price: float, size: float) -> None:
        self.open = self.high = self.low = self.close = price
        self.volume = size
        self.count = 1

    def add(self, price: float, size: float) -> None:
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        self.volume += size
        self.count += 1


def _fold(pages: Iterable[Sequence[Row]]) -> Iterator[Sequence[Row]]:
    """The bars of ticks in the order of their ids, whatever pages they come in.

    A bar is held back for LATE_MINUTES. After a clock that was set back further, its minute may have another bar.
    """
    bars: dict[tuple[int, str], _Bar] = {}
    newest = 0
    for page in pages:
        complete: list[Row] = []
        for symbol, price, size, received_ms in page:
            minute = received_ms - received_ms % MINUTE_MS
            if minute != newest and (minute > newest or minute < newest - LATE_MINUTES * MINUTE_MS):
                before = minute - LATE_MINUTES * MINUTE_MS if minute > newest else newest + 1
                complete += _take(bars, before)
                newest = minute
            bar = bars.get((minute, symbol))
            if bar is None:
                bars[minute, symbol] = _Bar(price, size)
            else:
                bar.add(price, size)
        yield complete
    yield _take(bars, newest + 1)


def _take(bars: dict[tuple[int, str], _Bar], before_ms: int) -> list[Row]:
    """Take the bars of earlier minutes out, in order."""
    keys = sorted(key for key in bars if key[0] < before_ms)
    taken = [(key, bars.pop(key)) for key in keys]
    return [(*key, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.count) for key, bar in taken]
