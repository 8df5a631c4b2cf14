"""The write-ahead log is synced while it grows, and the writer never waits for that."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_engine.database import CHECKPOINT_PAGES
from hybrid_engine.early_sync import SYNC_PAGES, EarlySync
from hybrid_engine.metrics import Books, Counters, FeedState
from hybrid_engine.store import Store
from tests.support.process import wait_until
from tests.support.rows import batch
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


def commit(store: Store, first: int, times: int) -> int:
    for number in range(first, first + times):
        store.write(batch(number), Books(), Counters(), FeedState(), ())
    return first + times


def test_a_checkpoint_is_due_before_the_log_is_long(tmp_path: Path) -> None:
    store = Store(tmp_path / "hybrid.db")
    store.begin_run(INFO, 1000)
    commit(store, 1, 300)
    page = 4096 + 24  # with the frame's header
    pages = os.stat(tmp_path / "hybrid.db-wal").st_size // page
    store.close()
    assert CHECKPOINT_PAGES <= pages < CHECKPOINT_PAGES + 50


def test_so_many_pages_are_synced_and_fewer_are_not(tmp_path: Path, disk: Disk) -> None:
    log = tmp_path / "hybrid.db-wal"
    log.touch()
    early = EarlySync(log)
    early.start()
    due = early._due
    for count in (1, 2, 3):
        early.wrote(SYNC_PAGES - 1)
        assert not due.is_set()
        early.wrote(1)
        wait_until(lambda: not due.is_set() and len(disk.synced) == count, "a sync of the log")  # noqa: B023 - asked now
    early.wrote(SYNC_PAGES - 1)
    early.close()
    assert disk.synced == [str(log)] * 3
    assert not early.is_alive()
    assert str(log) not in [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]


def test_commits_are_synced_while_more_of_them_come(db: Path, disk: Disk) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    disk.free.clear()
    number = commit(store, 1, SYNC_PAGES)  # each has some pages
    wait_until(lambda: disk.synced == [f"{db}-wal"], "a sync of the log")
    number = commit(store, number, SYNC_PAGES)  # the disk has not answered yet
    disk.free.set()
    wait_until(lambda: len(disk.synced) > 1, "what came meanwhile is synced as well")
    commit(store, number, 1)
    store.close()
    assert set(disk.synced) == {f"{db}-wal"}
    assert sorted(path.name for path in db.parent.iterdir()) == ["hybrid.db"]


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


def test_where_each_commit_waits_for_the_disk_nobody_else_does(db: Path, disk: Disk) -> None:
    store = Store(db, "power")
    store.begin_run(INFO, 1000)
    commit(store, 1, SYNC_PAGES)
    store.close()
    assert disk.synced == []
