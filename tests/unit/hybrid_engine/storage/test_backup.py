"""A backup is one checked state of the database, ends beside a writer, and leaves nothing when it fails."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine.runtime.errors import OverloadError, StorageError
from hybrid_engine.runtime.progress import Progress
from hybrid_engine.storage import backup, database
from hybrid_engine.storage.backup import back_up
from hybrid_engine.storage.database import read_snapshot
from hybrid_engine.storage.schema import APPLICATION_ID, MIGRATIONS
from hybrid_engine.storage.store import Store
from tests.support.accounting import check_chains, rows
from tests.support.pipeline import INFO
from tests.support.rows import batch, write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(db: Path) -> str:
    with closing(sqlite3.connect(db)) as con:
        return "\n".join(con.iterdump())


@pytest.fixture
def filled(db: Path) -> Path:
    """A database at rest."""
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1, 500))
    store.end_run(0, 2000)
    store.close()
    return db


@pytest.mark.holds("GROWTH")
def test_copy_of_database_at_rest_is_equal(filled: Path) -> None:
    copy = filled.with_name("copy.db")
    back_up(filled, copy)
    assert names(filled.parent) == ["copy.db", "hybrid.db"]
    assert copy.stat().st_mode & 0o777 == 0o640
    assert content(copy) == content(filled)
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as con:
        found = [con.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        assert found == [APPLICATION_ID, len(MIGRATIONS)]
        assert con.execute("PRAGMA journal_mode").fetchone() == ("delete",)  # read without a file beside it
    store = Store(copy)  # an engine continues on it
    assert store.begin_run(INFO, 3000) == 2
    assert store.first_ids[0] == 501
    store.close()


@pytest.mark.holds("GROWTH")
def test_backup_ends_though_each_step_meets_a_commit(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite begins a copy anew after a commit of another connection; here there is one after each step."""
    monkeypatch.setattr(backup, "STEP_PAGES", 4)
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1, 500))
    pages = rows(db, "PRAGMA page_count")[0][0]
    steps: list[str] = []

    def commit(self: Progress, text: str) -> None:
        steps.append(text)
        assert len(steps) < pages, "it begins anew again and again"
        write(store, batch(500 + len(steps)))

    monkeypatch.setattr(Progress, "show", commit)
    copy = db.with_name("copy.db")
    back_up(db, copy)
    assert len([text for text in steps if text.startswith("copying ")]) >= pages / 4
    assert rows(copy, "SELECT max(id), count(*) FROM ticks") == [(500, 500)]  # the state at its beginning
    assert rows(db, "SELECT max(id) FROM ticks") == [(500 + len(steps),)]
    store.close()
    with closing(sqlite3.connect(copy)) as con:
        assert check_chains(con) == []


def test_crashed_database_is_copied_with_its_log(db: Path) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1, 5))
    copy = db.with_name("copy.db")
    back_up(db, copy)  # the rows are in the log alone
    assert rows(copy, "SELECT max(id) FROM trades") == [(5,)]
    store.close()


def test_corrupt_database_gives_no_copy(filled: Path) -> None:
    with filled.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StorageError, match=r"copy.db: the copy is corrupt, as the database is: "):
        back_up(filled, filled.with_name("copy.db"))
    assert names(filled.parent) == ["hybrid.db"]


@pytest.mark.parametrize("at", ["copying", "checking"])
def test_interrupted_backup_ends_and_leaves_nothing(filled: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    monkeypatch.setattr(backup, "CHECK_S", 0)

    def interrupt(self: Progress, text: str) -> None:
        if text.startswith(at):
            raise KeyboardInterrupt

    class Slow(sqlite3.Connection):
        """A connection whose check lasts until it is interrupted."""

        def execute(self, query: str, *rest: object) -> sqlite3.Cursor:
            if query.startswith("PRAGMA integrity_check"):
                query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
            return super().execute(query, *rest)  # type: ignore[arg-type]

    original = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: original(*given, **options, factory=Slow))
    monkeypatch.setattr(Progress, "show", interrupt)
    with pytest.raises(KeyboardInterrupt):
        back_up(filled, filled.with_name("copy.db"))
    assert names(filled.parent) == ["hybrid.db"]


@pytest.mark.parametrize("kind", ["foreign", "empty", "garbage", "missing", "directory"])
def test_what_is_no_database_of_the_engine_is_refused(tmp_path: Path, kind: str) -> None:
    db = tmp_path / "hybrid.db"
    if kind == "foreign":
        with closing(sqlite3.connect(db)) as con:
            con.execute("CREATE TABLE other (id INTEGER)")
    elif kind == "directory":
        db.mkdir()
    elif kind != "missing":
        db.write_bytes(b"garbage" * 1000 if kind == "garbage" else b"")
    before = names(tmp_path)
    with pytest.raises(StorageError, match=r"hybrid\.db"):
        back_up(db, tmp_path / "copy.db")
    assert names(tmp_path) == before


def test_lasting_lock_is_given_up_with_its_reason(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    with closing(sqlite3.connect(filled, isolation_level=None)) as con:
        con.execute("PRAGMA locking_mode = EXCLUSIVE")
        con.execute("BEGIN EXCLUSIVE")
        con.execute("UPDATE runs SET waiting = 0")
        before = names(filled.parent)
        with pytest.raises(OverloadError, match=r"locked, for 0 s: another program holds it \(`fuser "):
            back_up(filled, filled.with_name("copy.db"))
        assert names(filled.parent) == before


@pytest.mark.holds("GROWTH")
def test_engine_that_starts_under_a_read_at_rest_is_noticed(filled: Path) -> None:
    """At rest the file is read without a lock: what an engine writes into it meanwhile would tear the result."""
    seen: list[int] = []

    def read(con: sqlite3.Connection) -> int:
        seen.append(con.execute("SELECT max(id) FROM ticks").fetchone()[0])
        assert names(filled.parent) == ["hybrid.db"]
        if len(seen) == 1:
            store = Store(filled)
            store.begin_run(INFO, 3000)
            write(store, batch(501, 50))
            store.close()
        return seen[-1]

    assert read_snapshot(filled, read) == 550
    assert seen == [500, 550]


def test_reader_of_an_ever_changing_file_gives_up(filled: Path) -> None:
    def read(con: sqlite3.Connection) -> None:
        store = Store(filled)
        store.begin_run(INFO, 3000)
        store.close()

    with pytest.raises(StorageError, match="an engine started or stopped at each of 10 attempts"):
        read_snapshot(filled, read)
