"""The write-ahead log is synced while it grows, the writer never waits for that, and a checkpoint follows a sync."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine.database import LONGEST_LOG_PAGES, open_reader
from hybrid_engine.early_sync import CHECKPOINT_PAGES, SYNC_PAGES, EarlySync
from hybrid_engine.metrics import Books, Counters, FeedState
from hybrid_engine.store import Store, now_ms
from tests.support.process import wait_until
from tests.support.rows import batch, chains
from tests.support.street import INFO


class Disk:
    """Stands between the thread and the disk: notes what is synced, and holds it up or fails it where it is told to."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.free = threading.Event()
        self.free.set()
        self.broken = False
        self._sync = os.fdatasync

    def fdatasync(self, fd: int) -> None:
        self.synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        assert self.free.wait(30)
        if self.broken:
            raise OSError(errno.EIO, "the disk is gone")
        self._sync(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk()
    monkeypatch.setattr(os, "fdatasync", made.fdatasync)
    yield made
    made.free.set()


def commit(store: Store, first: int, times: int, rows: int = 1) -> int:
    for number in range(first, first + times * rows, rows):
        store.write(batch(number, rows), Books(), Counters(), FeedState(), ())
    return first + times * rows


def answered(store: Store) -> None:
    early = store._early_sync
    assert early is not None
    wait_until(lambda: not early._syncing, "an answer of the disk")


def pages_of_log(db: Path) -> int:
    return os.stat(f"{db}-wal").st_size // (4096 + 24)  # with the frame's header


def test_so_many_pages_are_synced_and_fewer_are_not(tmp_path: Path, disk: Disk) -> None:
    log = tmp_path / "hybrid.db-wal"
    log.touch()
    early = EarlySync(log)
    early.start()
    for count in (1, 2, 3):
        assert not early.wrote(SYNC_PAGES - 1)
        assert not early._syncing
        assert not early.wrote(1)
        wait_until(lambda: not early._syncing and len(disk.synced) == count, "a sync of the log")  # noqa: B023 - asked now
    early.wrote(SYNC_PAGES - 1)
    early.close()
    assert disk.synced == [str(log)] * 3
    assert not early.is_alive()
    assert str(log) not in [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]


def test_a_checkpoint_is_due_when_a_long_log_was_synced(tmp_path: Path, disk: Disk) -> None:
    log = tmp_path / "hybrid.db-wal"
    log.touch()
    early = EarlySync(log)
    early.start()
    for _ in range(2):
        disk.free.clear()
        assert not early.wrote(SYNC_PAGES)
        assert not any(early.wrote(CHECKPOINT_PAGES) for _ in range(3))  # of a part only, and the disk is silent
        disk.free.set()
        wait_until(lambda: not early._syncing, "an answer of the disk")
        disk.free.clear()
        assert not early.wrote(1)  # long by now: this asks for a sync of all of it
        assert not any(early.wrote(SYNC_PAGES) for _ in range(3))
        disk.free.set()
        wait_until(lambda: not early._syncing, "an answer of the disk")
        assert early.wrote(1)
    early.close()
    assert len(disk.synced) == 4


def test_a_log_gets_long_in_small_steps(tmp_path: Path, disk: Disk) -> None:
    log = tmp_path / "hybrid.db-wal"
    log.touch()
    early = EarlySync(log)
    early.start()
    whole, rest = divmod(CHECKPOINT_PAGES, SYNC_PAGES)
    for count in range(1, whole + 1):
        assert not early.wrote(SYNC_PAGES)
        wait_until(lambda: not early._syncing and len(disk.synced) == count, "a sync of the log")  # noqa: B023 - asked now
    assert not early.wrote(rest - 1)
    assert not early._syncing
    assert not early.wrote(1)  # too few pages for a sync, but the log is long
    wait_until(lambda: not early._syncing and len(disk.synced) == whole + 1, "a sync of the log")
    assert early.wrote(1)
    assert not early.wrote(1)
    early.close()
    assert len(disk.synced) == whole + 1


def test_commits_are_synced_while_more_of_them_come(db: Path, disk: Disk) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    disk.free.clear()
    number = commit(store, 1, SYNC_PAGES)  # each has some pages
    wait_until(lambda: disk.synced == [f"{db}-wal"], "a sync of the log")
    number = commit(store, number, SYNC_PAGES)  # the disk has not answered yet
    assert len(disk.synced) == 1
    disk.free.set()
    answered(store)
    number = commit(store, number, 1)
    wait_until(lambda: len(disk.synced) > 1, "what came meanwhile is synced as well")
    commit(store, number, 1)
    store.close()
    assert set(disk.synced) == {f"{db}-wal"}
    assert sorted(path.name for path in db.parent.iterdir()) == ["hybrid.db"]


def test_the_log_is_folded_in_before_it_is_long(db: Path) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    number = 1
    for _ in range(100):
        number = commit(store, number, 1, 100)
        answered(store)
    pages = pages_of_log(db)
    store.close()
    assert CHECKPOINT_PAGES <= pages < 2 * CHECKPOINT_PAGES


def test_no_commit_waits_for_a_disk_that_does_not_answer(db: Path, disk: Disk) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    empty = db.stat().st_size
    disk.free.clear()
    number = commit(store, 1, 100, 100)
    assert 2 * CHECKPOINT_PAGES < pages_of_log(db) < LONGEST_LOG_PAGES["normal"]
    assert db.stat().st_size == empty  # a checkpoint, which would have waited, would have written here
    disk.free.set()
    for _ in range(2):  # one asks for a sync of all of it, the next folds it in
        answered(store)
        number = commit(store, number, 1, 100)
    assert db.stat().st_size > empty
    store.close()


def test_a_log_that_nobody_asks_to_fold_in_is_folded_in_by_sqlite(db: Path, disk: Disk) -> None:
    disk.free.clear()
    store = Store(db)
    store.begin_run(INFO, 1000)
    commit(store, 1, 200, 100)
    pages = pages_of_log(db)
    disk.free.set()
    store.close()
    assert LONGEST_LOG_PAGES["normal"] <= pages < LONGEST_LOG_PAGES["normal"] + 100


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_fails_the_early_sync_is_left_to_the_checkpoint(db: Path, disk: Disk) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    disk.broken = True
    number = commit(store, 1, SYNC_PAGES)
    wait_until(lambda: "early-sync" not in [thread.name for thread in threading.enumerate()], "it gives up")
    commit(store, number, SYNC_PAGES)
    store.close()
    assert len(disk.synced) == 1


def test_a_checkpoint_that_fails_fails_no_commit(db: Path) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    refused: list[str | None] = []

    def authorize(action: int, what: str | None, *_: str | None) -> int:
        if action != sqlite3.SQLITE_PRAGMA:
            return sqlite3.SQLITE_OK
        refused.append(what)
        return sqlite3.SQLITE_DENY

    store._con.set_authorizer(authorize)
    number = 1
    for _ in range(100):
        number = commit(store, number, 1, 100)
        answered(store)
        if refused:
            break
    assert refused == ["wal_checkpoint"]
    commit(store, number, 1)
    store.close()
    with closing(open_reader(db)) as reader:
        assert reader.execute("SELECT count(*) FROM ticks").fetchone() == (number,)


def test_what_retention_deletes_counts_as_well(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    commit(store, 1, 1, 20_000)
    store.write(chains(20_001, 1, now_ms(), now_ms()), Books(), Counters(), FeedState(), ())
    answered(store)
    asked: list[int] = []
    early = store._early_sync
    assert early is not None
    wrote = early.wrote

    def noted(pages: int) -> bool:
        asked.append(pages)
        return wrote(pages)

    monkeypatch.setattr(early, "wrote", noted)
    slices = 0
    while store.expire(1.0).rows:
        slices += 1
    store.close()
    assert slices > 15
    assert len(asked) == slices


def test_where_each_commit_waits_for_the_disk_nobody_else_does(db: Path, disk: Disk) -> None:
    store = Store(db, "power")
    store.begin_run(INFO, 1000)
    commit(store, 1, SYNC_PAGES)
    assert disk.synced == []
    commit(store, SYNC_PAGES + 1, 50, 100)
    pages = pages_of_log(db)
    store.close()
    assert LONGEST_LOG_PAGES["power"] <= pages < LONGEST_LOG_PAGES["power"] + 100
    assert disk.synced == []
