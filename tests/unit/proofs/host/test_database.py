"""Reading the engine's database from outside, while the engine starts, stops or is killed."""

from __future__ import annotations

import os
import sqlite3
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
