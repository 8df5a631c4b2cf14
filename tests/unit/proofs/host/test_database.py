"""Reading the engine's database from outside, while the engine starts, stops or is killed."""

from __future__ import annotations

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
    store.path.mkdir()  # opened, and not read
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        store.last_tick()
