"""Exchanges of the tests of the feed, and a feed in a hurry; databases of the tests of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_engine.ingest import feed, source_connection, source_selector
from hybrid_engine.storage.store import Store
from tests.support.pipeline import INFO
from tests.support.rows import batch, write
from tests.support.talker import Talker


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_selector, "GRACE_S", 0.1)
    monkeypatch.setattr(
        source_selector, "SLOW_CONNECT_S", 15.0
    )  # on a busy machine the best one leads first all the same
    monkeypatch.setattr(source_connection, "OVERLAP_S", 0.1)
    monkeypatch.setattr(feed, "TEND_S", 0.02)


@pytest.fixture
def one() -> Iterator[Talker]:
    with Talker() as talker:
        yield talker


@pytest.fixture
def two() -> Iterator[Talker]:
    with Talker() as talker:
        yield talker


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where a database can be made, alone in its directory."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder / "hybrid.db"


@pytest.fixture
def made(db: Path) -> Path:
    """A database with a run that ended well."""
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1, 50))
    store.end_run(0, 2000)
    store.close()
    return db
