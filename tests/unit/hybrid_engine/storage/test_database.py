"""Databases that are damaged, foreign or impossible are refused and left unchanged."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hybrid_engine.runtime.errors import ExitCode, StorageError
from hybrid_engine.storage import schema
from hybrid_engine.storage.database import PAGE_BYTES
from hybrid_engine.storage.schema import check_schema
from hybrid_engine.storage.store import Store
from tests.support.accounting import rows
from tests.support.pipeline import INFO
from tests.support.process import wait_until
from tests.support.rows import batch, write


def picture(folder: Path) -> dict[str, bytes]:
    """The content of every file."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def sql(*statements: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as con:
            for statement in statements:
                con.execute(statement)

    return spoil


def overwrite(at: int, data: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data)

    return spoil


def cut(keep: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(path.stat().st_size * keep))


def replaced(content: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.write_bytes(content)

    return spoil


def versioned(path: Path) -> None:
    path.unlink()
    sql("PRAGMA user_version = 3")(path)


def foreign(path: Path) -> None:
    path.unlink()
    sql("CREATE TABLE runs (id INTEGER PRIMARY KEY, what TEXT)", "INSERT INTO runs (what) VALUES ('theirs')")(path)


def foreign_wal(path: Path) -> None:
    path.unlink()
    sql("PRAGMA journal_mode = WAL", "CREATE TABLE t (id INTEGER)")(path)


def foreign_view(path: Path) -> None:
    path.unlink()
    sql("CREATE VIEW v AS SELECT 1 AS one")(path)


def loosened(path: Path) -> None:
    columns = "id INTEGER PRIMARY KEY, order_id, symbol, side, size, price, fee, created_ms"
    sql("DROP TABLE trades", f"CREATE TABLE trades ({columns}, FOREIGN KEY (order_id) REFERENCES orders (id))")(path)


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "garbage": (replaced(b"no database" * 999), "not a database"),
    "two bytes": (replaced(b"xy"), "its 2 bytes are not a database"),
    "one byte": (replaced(b"x"), "its 1 bytes are not a database"),
    "a broken header": (overwrite(0, b"SQLite format 4\0"), "not a database"),
    "truncated": (cut(0.5), ""),
    "truncated inside a page": (cut(0.77), ""),
    "a page of noise": (overwrite(4096, b"\xa5" * 4096), ""),
    "a schema of noise": (overwrite(200, b"\xa5" * 3800), ""),
    "somebody else's": (foreign, "not a database of this engine"),
    "somebody else's in WAL mode": (foreign_wal, "not a database of this engine"),
    "a column gone": (sql("ALTER TABLE ticks DROP COLUMN exchange_id"), "ticks: exchange_id is missing"),
    "a table gone": (sql("DROP TABLE gaps"), "wrong schema: gaps: "),
    "a version without tables": (versioned, "not a database of this engine"),
    "a view alone": (foreign_view, "not a database of this engine"),
    "a table that is not strict": (loosened, "wrong schema: trades: STRICT is missing"),
}


@pytest.mark.holds("G3")
@pytest.mark.parametrize("how", SPOILED)
def test_damaged_or_foreign_file_refused_unchanged(finished_db: Path, how: str) -> None:
    spoil, message = SPOILED[how]
    spoil(finished_db)
    before = picture(finished_db.parent)
    with pytest.raises(StorageError) as caught:
        Store(finished_db)
    assert caught.value.code is ExitCode.STORAGE
    assert str(finished_db) in str(caught.value)
    assert message in str(caught.value)
    assert picture(finished_db.parent) == before
    with pytest.raises(StorageError):  # no lock is left: the next attempt fails in the same way
        Store(finished_db)


def test_write_ahead_log_of_crash_is_recovered(db: Path) -> None:
    """After a kill the newest rows are in the write-ahead log only."""
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1, 5))
    copy = db.parent / "copy"
    copy.mkdir()
    for path in db.parent.glob("hybrid.db*"):
        if path.name != "hybrid.db-shm":
            (copy / path.name).write_bytes(path.read_bytes())
    store.close()
    again = Store(copy / "hybrid.db")
    assert again.next_ids()[0] == 6
    again.close()


def test_inconsistent_index_is_corrupt(finished_db: Path) -> None:
    """Damage that does not prevent opening and that only a check finds."""
    with closing(sqlite3.connect(finished_db, isolation_level=None)) as con:
        con.execute("PRAGMA writable_schema = ON")
        (page,) = con.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'signals'").fetchone()
        (size,) = con.execute("PRAGMA page_size").fetchone()
    with finished_db.open("r+b") as file:
        file.seek((page - 1) * size + 3)
        file.write(struct.pack(">H", 9999))  # so many cells do not fit into a page
    with pytest.raises(StorageError, match=r"corrupt|malformed"):
        Store(finished_db)


@pytest.mark.holds("GROWTH")
def test_start_check_is_limited_in_time(finished_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert schema.CHECK_S <= 0.05
    with closing(sqlite3.connect(finished_db)) as con:
        con.execute(
            "WITH RECURSIVE n (id) AS (SELECT 51 UNION ALL SELECT id + 1 FROM n WHERE id < 200000)"
            " INSERT INTO ticks SELECT id, 1, 's', 'X', 1.0, 1.0, id, 1, 1, 0 FROM n"
        )
        con.commit()

    interrupted: list[str] = []

    class Watched(sqlite3.Connection):
        def execute(self, *words: Any) -> sqlite3.Cursor:
            try:
                return super().execute(*words)
            except sqlite3.OperationalError as error:
                interrupted.append(str(error))
                raise

    def check(limit_s: float) -> bool:
        """Whether a check was interrupted."""
        monkeypatch.setattr("hybrid_engine.storage.schema.CHECK_S", limit_s)
        with closing(sqlite3.connect(f"file:{finished_db}?mode=ro", uri=True, factory=Watched)) as con:
            check_schema(con, str(finished_db))
        return bool(interrupted)

    assert not check(60.0)
    wait_until(lambda: check(0.001), "a check that is cut short")
    assert interrupted == ["interrupted"]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    return {
        "no such directory": tmp_path / "none" / "hybrid.db",
        "a directory": tmp_path,
        "a name too long": tmp_path / ("x" * 300),
        "below a file": tmp_path / "file" / "hybrid.db",
    }


@pytest.mark.parametrize("where", ["no such directory", "a directory", "a name too long", "below a file"])
def test_impossible_path_is_refused(tmp_path: Path, places: dict[str, Path], where: str) -> None:
    (tmp_path / "file").touch()
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(StorageError, match="/"):
        Store(places[where])
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_new_database_has_small_pages_and_an_older_one_keeps_its_own(db: Path) -> None:
    Store(db).close()
    older = db.with_name("older.db")
    with closing(sqlite3.connect(older)) as con:
        con.execute("PRAGMA page_size = 4096")
        con.executescript(f"PRAGMA application_id = {schema.APPLICATION_ID}; PRAGMA journal_mode = WAL;")
        for script in schema.MIGRATIONS[:2]:
            con.executescript(script)
        con.execute("PRAGMA user_version = 2")
    store = Store(older)
    store.begin_run(INFO, 1000)
    write(store, batch(1, 50))
    store.close()
    assert rows(db, "PRAGMA page_size") == [(PAGE_BYTES,)]
    assert rows(older, "PRAGMA page_size") == [(4096,)]
    assert rows(older, "SELECT count(*) FROM ticks") == [(50,)]
