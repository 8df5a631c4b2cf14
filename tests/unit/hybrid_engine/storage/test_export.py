"""Export: its times and selections, what is deleted under it, and how long a read lasts."""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid_engine import cli
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import ConfigError
from hybrid_engine.storage import export
from hybrid_engine.storage.database import read_snapshot
from hybrid_engine.storage.export import Selection, parse_selection, parse_time, read
from hybrid_engine.storage.formats import FORMATS
from hybrid_engine.storage.retention import DAY_MS
from hybrid_engine.storage.store import Store
from tests.support.pipeline import INFO
from tests.support.rows import chains, write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("2026", 2026),
        ("1767225600000", 1767225600000),
        ("2026-01-01", 1767225600000),
        ("2026-01-01T00:00:00Z", 1767225600000),
        ("2026-01-01t00:00:00.0019z", 1767225600001),
        ("2026-01-01T01:30:00.5+01:30", 1767225600500),
        ("2025-12-31 23:00:00-01:00", 1767225600000),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_time("--from", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "yesterday", "-5", "1.5", "9" * 30, "\u0661", " 2026-01-01"),
        *("2026-1-1", "2026-02-30", "2026-W01-1", "20260101T000000Z"),
        *("2026-01-01T00:00:00", "2026-01-01T00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00+25:00"),
    ],
)
def test_wrong_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^command line: --to "):
        parse_time("--to", text)


@pytest.mark.parametrize(
    ("begin", "end", "symbols", "reason"),
    [
        ("5", "5", [], "nothing is in between"),
        ("2026-01-02", "2026-01-01", [], "nothing is in between"),
        (None, None, [""], "must be a symbol as it is stored"),
        (None, None, ["a\udcff"], "must be a symbol as it is stored"),
    ],
)
def test_wrong_selection_is_refused(begin: str | None, end: str | None, symbols: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_selection("ticks", begin, end, symbols)


def test_command_offers_every_table_and_format(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line names them too, because it loads the export only for its command."""
    with pytest.raises(SystemExit):
        cli.main(["export", "--help"])
    text = capsys.readouterr().out
    assert f"--table {{{','.join(export.TABLES)}}}" in text
    assert f"--format {{{','.join(FORMATS)}}}" in text


def test_rows_that_are_deleted_meanwhile_end_nothing(db: Path) -> None:
    """Retention deletes the oldest; new rows are not waited for."""
    old = now_ms() - 10 * DAY_MS
    store = Store(db)
    store.begin_run(INFO, old)
    write(store, chains(1, 100, old, old))
    write(store, chains(101, 5, now_ms(), now_ms()))
    _, pages = read(db, Selection("ticks"), 10)
    found = [row[0] for row in next(pages)]
    store.delete_expired(1)
    write(store, chains(106, 50, now_ms(), now_ms()))
    found += [row[0] for page in pages for row in page]
    assert found == [*range(1, 11), *range(101, 106)]
    _, pages = read(db, Selection("ticks"), 40)
    next(pages)
    store._con.execute("DELETE FROM trades")
    store._con.execute("DELETE FROM orders")
    store._con.execute("DELETE FROM signals")
    store._con.execute("DELETE FROM ticks")
    assert [row for page in pages for row in page] == []
    store.close()


@pytest.mark.holds("GROWTH")
@pytest.mark.parametrize("table", ["ticks", "orders", "trades", "gaps", "bars"])
def test_read_is_as_short_in_a_large_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """No page looks at more rows than it is long, also where none of them is selected."""
    longest: list[int] = []

    def counted(path: Path, query: Callable[[sqlite3.Connection], Any]) -> Any:
        steps: list[None] = []

        def count(con: sqlite3.Connection) -> Any:
            con.set_progress_handler(lambda: steps.append(None), 1)
            return query(con)

        result = read_snapshot(path, count)
        longest[-1] = max(longest[-1], len(steps))
        return result

    monkeypatch.setattr(export, "read_snapshot", counted)
    for rows in (400, 4000):
        db = tmp_path / f"{rows}.db"
        store = Store(db)
        store.begin_run(INFO, 1)
        write(store, chains(1, rows, 5, 5))
        store.close()
        for selection in (Selection(table), Selection(table, 6), Selection(table, symbols=("Y",))):
            longest.append(0)
            assert len([row for page in read(db, selection, 100)[1] for row in page]) in (0, 1, rows)
    for small, large in zip(longest[:3], longest[3:], strict=True):
        assert large <= small + 20, longest


def test_missing_pyarrow_is_told(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return original(name, *rest)

    store = Store(db)
    store.begin_run(INFO, 1)
    store.close()
    monkeypatch.setattr(builtins, "__import__", refuse)
    path = db.with_name("out.parquet")
    with pytest.raises(ConfigError, match=r"needs pyarrow, which a release does not bring: pip install"):
        export.export(db, Selection("ticks"), "parquet", path)
    assert [file.name for file in db.parent.iterdir()] == ["hybrid.db"]
