"""REPLAY from a locked database: it is retried for `overload_after_s`."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine.config.settings import AppSettings, EngineSettings, ReplayFrom, Settings
from hybrid_engine.ingest import replay
from hybrid_engine.runtime.errors import OverloadError
from hybrid_engine.storage import database
from hybrid_engine.storage.store import Store
from tests.support.pipeline import INFO

ATTEMPTS = 4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    target = Store(tmp_path / "target.db")
    yield target
    target.close()


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """The connection that locks the earlier run's database; an attempt to open it takes 20 ms instead of 5 s."""
    earlier = Store(tmp_path / "earlier.db")
    earlier.begin_run(INFO, 1000)
    earlier.end_run(0, 2000)
    earlier.close()
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    with closing(sqlite3.connect(tmp_path / "earlier.db", isolation_level=None)) as con:
        con.execute("PRAGMA journal_mode = DELETE")
        con.execute("BEGIN EXCLUSIVE")
        yield con


def count_attempts(monkeypatch: pytest.MonkeyPatch, callback: Callable[[int], None]) -> list[int]:
    """Call `callback` with the number of each attempt to open the earlier run. Returns the numbers so far."""
    original, attempts = database.open_reader, list[int]()

    def open_reader(path: Path) -> sqlite3.Connection:
        attempts.append(len(attempts) + 1)
        callback(attempts[-1])
        return original(path)

    monkeypatch.setattr(replay, "open_reader", open_reader)
    return attempts


def settings(tmp_path: Path, overload_after_s: float) -> Settings:
    source = ReplayFrom(database=str(tmp_path / "earlier.db"), run=1)
    engine = EngineSettings(ingest_mode="REPLAY", replay_from=source, overload_after_s=overload_after_s)
    return Settings(app=AppSettings(db_path=str(tmp_path / "target.db")), engine=engine)


def test_short_lock_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, lock: sqlite3.Connection
) -> None:
    def release_lock(number: int) -> None:
        if number == ATTEMPTS:
            lock.execute("ROLLBACK")

    attempts = count_attempts(monkeypatch, release_lock)
    replay.check_target(settings(tmp_path, 60), store)
    assert len(attempts) == ATTEMPTS


def test_lasting_lock_raises_after_overload_after_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, lock: sqlite3.Connection
) -> None:
    attempts, started_at = count_attempts(monkeypatch, lambda number: None), time.monotonic()
    with pytest.raises(OverloadError, match=r"locked.*for 0\.3 s"):
        replay.check_target(settings(tmp_path, 0.3), store)
    assert time.monotonic() - started_at >= 0.3
    assert len(attempts) > 1
