"""REPLAY on a database that somebody else holds: it tries again and again, and is only then out of patience."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine.config.settings import EngineSettings, ReplayFrom
from hybrid_engine.ingest import replay
from hybrid_engine.runtime.errors import OverloadError
from hybrid_engine.storage import database
from hybrid_engine.storage.store import Store
from tests.support.pipeline import INFO

TRIES = 4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "target.db")
    yield made
    made.close()


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Who holds the earlier run's database; a try at it takes 20 ms instead of 5 s."""
    earlier = Store(tmp_path / "earlier.db")
    earlier.begin_run(INFO, 1000)
    earlier.end_run(0, 2000)
    earlier.close()
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    with closing(sqlite3.connect(tmp_path / "earlier.db", isolation_level=None)) as con:
        con.execute("PRAGMA journal_mode = DELETE")
        con.execute("BEGIN EXCLUSIVE")
        yield con


def at_each_try(monkeypatch: pytest.MonkeyPatch, then: Callable[[int], None]) -> list[int]:
    """Call `then` with the number of each try to open the earlier run; the numbers so far."""
    opened, tries = database.open_reader, list[int]()

    def open_reader(path: Path) -> sqlite3.Connection:
        tries.append(len(tries) + 1)
        then(tries[-1])
        return opened(path)

    monkeypatch.setattr(replay, "open_reader", open_reader)
    return tries


def settings(tmp_path: Path, patience_s: float) -> EngineSettings:
    source = ReplayFrom(database=str(tmp_path / "earlier.db"), run=1)
    return EngineSettings(ingest_mode="REPLAY", replay_from=source, overload_after_s=patience_s)


def test_a_lock_that_goes_in_time_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, holder: sqlite3.Connection
) -> None:
    def let_go(number: int) -> None:
        if number == TRIES:
            holder.execute("ROLLBACK")

    tries = at_each_try(monkeypatch, let_go)
    replay.check_target(settings(tmp_path, 60), tmp_path / "target.db", store)
    assert len(tries) == TRIES


def test_a_lock_that_stays_is_waited_for_as_long_as_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, holder: sqlite3.Connection
) -> None:
    tries, began = at_each_try(monkeypatch, lambda number: None), time.monotonic()
    with pytest.raises(OverloadError, match=r"locked.*for 0\.3 s"):
        replay.check_target(settings(tmp_path, 0.3), tmp_path / "target.db", store)
    assert time.monotonic() - began >= 0.3
    assert len(tries) > 1
