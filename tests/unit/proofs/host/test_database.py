"""Reading the engine's database from outside, while the engine starts, stops or is killed."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from proofs.host import database
from proofs.host.database import Row, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    path = tmp_path / "engine.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE ticks (id INTEGER PRIMARY KEY)")
    connection.close()
    return Store(path)


def test_database_without_ticks_has_none(store: Store, tmp_path: Path) -> None:
    assert store.last_tick() == 0
    assert Store(tmp_path / "none.db").last_tick() == 0
    assert Store(tmp_path / "no" / "folder.db").last_tick() == 0
    (tmp_path / "empty.db").touch()
    assert Store(tmp_path / "empty.db").last_tick() == 0


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["a link", "a directory", "a FIFO"])
def test_what_is_no_file_is_not_opened(store: Store, tmp_path: Path, suffix: str, kind: str) -> None:
    place = Path(f"{store.path}{suffix}")
    place.unlink(missing_ok=True)
    if kind == "a link":
        (tmp_path / "target").write_text("of somebody else")
        place.symlink_to(tmp_path / "target")
    elif kind == "a directory":
        place.mkdir()
    else:
        os.mkfifo(place)
    with pytest.raises(sqlite3.OperationalError, match=f"{place.name} is {kind}.* was not opened"):
        store.rows("SELECT 1")


def test_moment_without_access_is_not_taken_for_no_ticks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = ["unable to open database file", "database is locked"]

    def rows(sql: str, arguments: object = ()) -> list[Row]:
        if errors:
            raise sqlite3.OperationalError(errors.pop())
        return [{"id": 7}]

    monkeypatch.setattr(store, "rows", rows)
    assert store.last_tick() == 7


def test_lasting_lack_of_access_is_raised(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_UNREADABLE_S", 0.0)
    store.path.unlink()
    store.path.mkdir()
    with pytest.raises(sqlite3.OperationalError, match="is a directory where a file belongs"):
        store.last_tick()


@contextmanager
def no_room_for_files_above(size: int) -> Iterator[None]:
    """A disk that is full, for this process: no file of it grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_database_that_nobody_uses_is_read_on_a_full_disk(store: Store) -> None:
    """Reading in WAL mode needs an index of the log, and a full disk has no room for one."""
    with closing(sqlite3.connect(store.path)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.executescript("INSERT INTO ticks VALUES (1); INSERT INTO ticks VALUES (2)")
    with no_room_for_files_above(1000):
        assert store.last_tick() == 2
        assert store.ticks(up_to=1) == [{"id": 1}]


def test_log_is_never_left_out_of_what_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rows in the log, and no room for its index, there is no way to read what was committed."""
    monkeypatch.setattr(database, "_UNREADABLE_S", 0.0)
    log, index = (Path(f"{store.path}-{end}") for end in ("wal", "shm"))
    with closing(sqlite3.connect(store.path)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO ticks VALUES (1)")
        writer.commit()
        kept = log.read_bytes()
    log.write_bytes(kept)
    index.unlink(missing_ok=True)
    with no_room_for_files_above(1000), pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        store.last_tick()
