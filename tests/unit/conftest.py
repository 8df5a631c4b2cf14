"""Fixtures of the feed (short intervals) and of the store (databases)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_engine.ingest import feed, source_selector, source_state
from hybrid_engine.storage.store import Store
from tests.support.pipeline import INFO
from tests.support.rows import batch, write


@pytest.fixture
def fast_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short intervals, so that tests of the feed on real sockets are quick."""
    monkeypatch.setattr(source_selector, "GRACE_S", 0.1)
    # also on a busy machine the best source is active first
    monkeypatch.setattr(source_selector, "SLOW_CONNECT_S", 15.0)
    monkeypatch.setattr(source_state, "OVERLAP_S", 0.1)
    monkeypatch.setattr(feed, "HOUSEKEEPING_S", 0.02)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """The path of a new database, alone in its directory."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder / "hybrid.db"


@pytest.fixture
def finished_db(db: Path) -> Path:
    """A database with a run that ended with 0."""
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1, 50))
    store.end_run(0, 2000)
    store.close()
    return db
