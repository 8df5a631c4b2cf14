"""`hybrid-engine export`: the pages it reads change nothing, and each format gives back what is stored."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from hybrid_engine.domain.accounting import Gap
from hybrid_engine.domain.events import Tick
from hybrid_engine.storage.export import LATE_MINUTES, MINUTE_MS, Selection, read
from hybrid_engine.storage.formats import FORMATS
from hybrid_engine.storage.store import Batch, Store
from tests.support.pipeline import INFO
from tests.support.rows import write

HOUR_MS = 60 * MINUTE_MS
START_MS = 1_800_000_000_000
FORMULAS = st.sampled_from(
    ["=1+1", "+A1", "-2", "@SUM(A1)", "\tx", "\rx", "'x", "''=x", "\uff1dx", "a,b", 'a"b', "a\nb", ""]
)
SYMBOLS = (
    FORMULAS | st.sampled_from(["BTC/USD", "ETH/USD"]) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
)
NUMBERS = st.floats(1e-12, 1e12) | st.sampled_from([0.1, 1e-9, 64999.99, 5e-324])
TIMES = st.integers(START_MS, START_MS + HOUR_MS // 4)
TICKS = st.lists(
    st.tuples(st.integers(1, 4), SYMBOLS, NUMBERS, NUMBERS, TIMES, st.none() | st.integers(1, 99)), max_size=25
)
INTERVALS = st.tuples(st.none() | TIMES, st.none() | TIMES)


@contextmanager
def stored(drawn: Sequence[tuple[int, str, float, float, int, int | None]], *gaps: Gap) -> Iterator[Path]:
    """A database with these ticks, whose ids leave some out."""
    ticks, number = Batch(), 0
    for step, symbol, price, size, received_ms, exchange_id in drawn:
        number += step
        ticks.ticks.append(Tick(number, "s", symbol, price, size, exchange_id, received_ms - 7, received_ms))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hybrid.db"
        store = Store(path)
        store.begin_run(INFO, START_MS)
        write(store, ticks, *gaps)
        store.close()
        yield path


def rows_of(path: Path, selection: Selection, page_rows: int) -> list[Any]:
    return list(chain.from_iterable(read(path, selection, page_rows)[1]))


def select(path: Path, selection: Selection) -> list[Any]:
    """The same in one statement, restricted in Python."""
    with closing(sqlite3.connect(path)) as con:
        con.row_factory = sqlite3.Row
        begin = -1 if selection.from_ms is None else selection.from_ms
        end = 2**63 if selection.to_ms is None else selection.to_ms
        return [
            tuple(row)
            for row in con.execute("SELECT * FROM ticks ORDER BY id")
            if begin <= row["received_ms"] < end and (not selection.symbols or row["symbol"] in selection.symbols)
        ]


@pytest.mark.holds("GROWTH")
@given(TICKS, INTERVALS, st.lists(SYMBOLS, max_size=2), st.integers(1, 30))
def test_pages_equal_one_select(drawn: Any, interval: Any, symbols: list[str], page_rows: int) -> None:
    with stored(drawn) as path:
        selection = Selection("ticks", *interval)._replace(symbols=tuple(symbols))
        assert rows_of(path, selection, page_rows) == select(path, selection)


@given(TICKS, INTERVALS, st.integers(1, 30))
def test_bars_are_the_same_however_pages_are_cut(drawn: Any, interval: Any, page_rows: int) -> None:
    expected: dict[tuple[int, str], list[float]] = {}
    with stored(drawn) as path:
        for _, _, _, symbol, price, size, *_, received_ms, _ in select(path, Selection("ticks", *interval)):
            bar = expected.setdefault(
                (received_ms // MINUTE_MS * MINUTE_MS, symbol), [price, price, price, price, 0, 0]
            )
            bar[1:] = [max(bar[1], price), min(bar[2], price), price, bar[4] + size, bar[5] + 1]
        bars = rows_of(path, Selection("bars", *interval), page_rows)
    assert bars == [(*key, *expected[key]) for key in sorted(expected)]


def test_clock_that_was_set_back_far_begins_other_bars() -> None:
    """It neither ends the export nor keeps every bar in memory."""
    back = START_MS - (LATE_MINUTES + 5) * MINUTE_MS
    times = [START_MS, START_MS - MINUTE_MS, back, back + MINUTE_MS, START_MS]
    with stored([(1, "X", 1.0, 1.0, at, None) for at in times]) as path:
        bars = rows_of(path, Selection("bars"), 2)
    assert [(bar[0], bar[-1]) for bar in bars] == [
        (at // MINUTE_MS * MINUTE_MS, 1) for at in (START_MS - MINUTE_MS, START_MS, back, back + MINUTE_MS, START_MS)
    ]


def output(path: Path, form: str, table: str) -> tuple[bytes, list[Any]]:
    """A format's output for a table, and the rows."""
    file = io.BytesIO()
    file.close = lambda: None  # type: ignore[method-assign]
    columns, pages = read(path, Selection(table), 7)
    rows = list(pages)
    FORMATS[form](file, columns, rows)
    return file.getvalue(), list(chain.from_iterable(rows))


@given(TICKS)
def test_csv_gives_back_what_is_stored(drawn: Any) -> None:
    with stored(drawn) as path:
        written, rows = output(path, "csv", "ticks")
    names, *lines = csv.reader(io.StringIO(written.decode(), newline=""))
    assert names[:4] == ["id", "run_id", "source", "symbol"]
    cells = [cell for line in lines for cell in line]
    assert [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")] == []
    texts = {"source", "symbol"}
    result = [
        tuple(
            text.removeprefix("'") if name in texts else float(text) if name in ("price", "size") else int(text or -1)
            for name, text in zip(names, line, strict=True)
        )
        for line in lines
    ]
    assert result == [tuple(-1 if value is None else value for value in row) for row in rows]


@given(TICKS)
def test_jsonl_and_parquet_give_back_what_is_stored(drawn: Any) -> None:
    with stored(drawn) as path:
        lines, rows = output(path, "jsonl", "ticks")
        table = parquet.read_table(pa.BufferReader(output(path, "parquet", "ticks")[0]))
    assert lines.isascii()
    assert [tuple(json.loads(line).values()) for line in lines.splitlines()] == rows
    assert [tuple(row.values()) for row in table.to_pylist()] == rows
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["symbol"], types["price"], types["received_ms"]) == ("string", "double", "int64")


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((None, None), [1, 2, 3, 4, 5]),
        ((100, 200), [2, 3, 5]),  # those that touch it, the open one and the crash of every symbol too
        ((200, None), [3, 4, 5]),
        ((None, 50), [1]),
        ((51, 60), [2]),
        ((300, 301), [4, 5]),
    ],
)
def test_gaps_that_touch_the_interval(interval: tuple[int | None, int | None], expected: list[int]) -> None:
    gaps = [
        Gap(1, "dropped", "s", "X", 50 - 1, 50, 1),
        Gap(2, "down", "s", "X", 50, 120, None),
        Gap(3, "down", "s", "X", 150, 250, None),
        Gap(4, "dropped", "s", "X", 300, 300, 1),
        Gap(5, "crash", "", "", 199, None, None),
        Gap(6, "down", "s", "Y", 0, 999, None),
    ]
    with stored([], *gaps) as path:
        for page_rows in (1, 2, 9):
            rows = rows_of(path, Selection("gaps", *interval, ("X",)), page_rows)
            assert [row[0] for row in rows] == expected
