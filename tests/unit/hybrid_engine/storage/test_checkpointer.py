"""The checkpointer syncs and moves the write-ahead log while the writer commits and waits only briefly."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hybrid_engine.domain.accounting import AdmissionCounters, FeedState, StageCounters
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.storage import checkpointer as module
from hybrid_engine.storage.checkpointer import CHECKPOINT_PAGES, SYNC_PAGES, Checkpointer, Step
from hybrid_engine.storage.database import AUTOCHECKPOINT_PAGES, MAX_LOG_FILE_BYTES, PAGE_BYTES, open_reader
from hybrid_engine.storage.store import Store
from tests.support.pipeline import INFO
from tests.support.process import wait_until
from tests.support.rows import batch, chains


class Disk:
    """Records syncs and moves of the log, and delays or fails them on request."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.moves = 0
        self.free = threading.Event()  # for syncs
        self.moving = threading.Event()  # for moves
        self.free.set()
        self.moving.set()
        self.broken = ""  # syncs of a file of this name fail
        self.refusing = False  # moves fail
        self._sync = os.fdatasync

    def fdatasync(self, fd: int) -> None:
        name = os.readlink(f"/proc/self/fd/{fd}")
        self.synced.append(name)
        self.free.wait(30)
        if name == self.broken:
            raise OSError(errno.EIO, "the disk is gone")
        self._sync(fd)

    def moved(self, words: str) -> None:
        assert words == "PRAGMA wal_checkpoint(PASSIVE)"  # any other mode would block the writer
        self.moves += 1
        self.moving.wait(30)
        if self.refusing:
            raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    created = Disk()
    monkeypatch.setattr(os, "fdatasync", created.fdatasync)

    class Moving(sqlite3.Connection):
        def execute(self, *words: Any) -> sqlite3.Cursor:
            if words[0].startswith("PRAGMA"):
                created.moved(*words)
            return super().execute(*words)

    def connect(checkpointer: Checkpointer) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(checkpointer._database, isolation_level=None, timeout=0, factory=Moving))

    monkeypatch.setattr(Checkpointer, "_connect", connect)
    yield created
    created.free.set()
    created.moving.set()
    for thread in threading.enumerate():
        if isinstance(thread, Checkpointer):
            thread._never.set()
            thread.join(10)
            assert not thread.is_alive(), "a store was not closed"


def of(store: Store) -> Checkpointer:
    assert store._checkpointer is not None
    return store._checkpointer


SOMEBODY_ELSE = """
import sqlite3, sys
con = sqlite3.connect(sys.argv[1])
con.execute("PRAGMA wal_checkpoint(PASSIVE)")
con.execute("CREATE TABLE theirs (id)")
con.close()
"""


def opened(db: Path, durability: str = "normal") -> Store:
    store = Store(db, durability)
    store.begin_run(INFO, 1000)
    return store


def commit(store: Store, first: int, times: int, rows: int = 1) -> int:
    for number in range(first, first + times * rows, rows):
        store.write(batch(number, rows), AdmissionCounters(), StageCounters(), FeedState(), ())
    return first + times * rows


def answered(checkpointer: Checkpointer) -> None:
    wait_until(lambda: checkpointer._step in (Step.IDLE, Step.MOVED), "an answer of the disk")


def until_moved(store: Store, number: int) -> int:
    """Commit until most of the log has been moved."""
    while of(store)._step is not Step.MOVED:
        number = commit(store, number, 1, 100)
        answered(of(store))
    return number


def pages_of_log(db: Path) -> int:
    return os.stat(f"{db}-wal").st_size // (PAGE_BYTES + 24)  # a page with its frame header


def holds(db: Path, ticks: int) -> bool:
    """Whether the file itself, without its log, has so many ticks."""
    with closing(sqlite3.connect(f"{db.as_uri()}?mode=ro&immutable=1", uri=True)) as reader:
        result: int = reader.execute("SELECT count(*) FROM ticks").fetchone()[0]
        return result == ticks


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long limit, because a busy machine's disk is slow; the tests about the limit set their own."""
    monkeypatch.setattr(module, "REST_S", 30.0)


@pytest.fixture
def alone(db: Path, disk: Disk) -> Iterator[Checkpointer]:
    """A checkpointer without a store, on a database that another connection has open."""
    with closing(sqlite3.connect(db)) as con:
        con.execute("PRAGMA journal_mode = wal")
        con.execute("CREATE TABLE any (id)")
        fd = os.open(db, os.O_RDWR)
        checkpointer = Checkpointer(db, fd)
        checkpointer.start()
        yield checkpointer
        disk.free.set()
        disk.moving.set()
        checkpointer.close()
    os.close(fd)


def test_sync_after_sync_pages(alone: Checkpointer, db: Path, disk: Disk) -> None:
    for count in (1, 2, 3):
        alone.add_pages(SYNC_PAGES - 1)
        assert alone._step is Step.IDLE
        alone.add_pages(1)
        wait_until(lambda: alone._step is Step.IDLE and len(disk.synced) == count, "a sync of the log")  # noqa: B023 - asked now
    alone.add_pages(SYNC_PAGES - 1)
    alone.close()
    assert disk.synced == [f"{db}-wal"] * 3
    assert disk.moves == 0
    assert not alone.is_alive()
    opened_by_all = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert opened_by_all.count(f"{db}-wal") == 1  # of the connection that has it open


def test_small_commits_reach_checkpoint(alone: Checkpointer, disk: Disk) -> None:
    whole, rest = divmod(CHECKPOINT_PAGES, SYNC_PAGES)
    for _ in range(2):
        disk.synced.clear()
        for count in range(1, whole + 1):
            alone.add_pages(SYNC_PAGES)
            wait_until(lambda: alone._step is Step.IDLE and len(disk.synced) == count, "a sync")  # noqa: B023 - asked now
        log = disk.synced[0]
        alone.add_pages(rest - 1)
        assert alone._step is Step.IDLE
        moves = disk.moves
        alone.add_pages(1)  # too few pages for a sync, but the log is long
        wait_until(lambda: alone._step is Step.MOVED, "the bulk of the log moved")
        assert disk.synced[whole:] == [log, log.removesuffix("-wal")]
        assert disk.moves == moves + 1
        alone.add_pages(1)
        assert alone._step is Step.IDLE  # the writer has waited for it
        assert disk.synced[whole:] == [log, *[log.removesuffix("-wal")] * 2]
        assert disk.moves == moves + 2


def test_commits_synced_while_others_follow(db: Path, disk: Disk) -> None:
    store = opened(db)
    disk.free.clear()
    number = commit(store, 1, SYNC_PAGES)  # each commit has some pages
    wait_until(lambda: disk.synced == [f"{db}-wal"], "a sync of the log")
    number = commit(store, number, SYNC_PAGES)  # the sync has not returned yet
    assert len(disk.synced) == 1
    disk.free.set()
    answered(of(store))
    number = commit(store, number, 1)
    wait_until(lambda: len(disk.synced) > 1, "what came meanwhile is synced as well")
    commit(store, number, 1)
    store.close()
    assert sorted(path.name for path in db.parent.iterdir()) == ["hybrid.db"]


def test_log_restarts_before_it_is_long(db: Path) -> None:
    store = opened(db)
    number = 1
    for _ in range(150):
        number = commit(store, number, 1, 100)
        answered(of(store))
    pages = pages_of_log(db)
    store.close()
    assert CHECKPOINT_PAGES <= pages < 1.5 * CHECKPOINT_PAGES


def test_all_commits_are_moved(db: Path) -> None:
    store = opened(db)
    number = until_moved(store, 1)
    number = commit(store, number, 1, 100)  # this commit waits for the rest
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def test_commits_continue_during_move(db: Path, disk: Disk) -> None:
    store = opened(db)
    empty = db.stat().st_size
    disk.moving.clear()
    number = 1
    while not disk.moves:
        number = commit(store, number, 1, 100)
        wait_until(lambda: disk.moves or of(store)._step is Step.IDLE, "an answer of the disk")
    before = pages_of_log(db)
    number = commit(store, number, 20, 100)
    assert of(store)._step is Step.BULK
    assert pages_of_log(db) > before
    assert db.stat().st_size == empty
    disk.moving.set()
    wait_until(lambda: of(store)._step is Step.MOVED, "the bulk of the log moved")
    assert db.stat().st_size > empty
    store.close()


def test_commits_do_not_wait_for_hanging_disk(db: Path, disk: Disk) -> None:
    store = opened(db)
    empty = db.stat().st_size
    disk.free.clear()
    number = commit(store, 1, 200, 100)
    assert pages_of_log(db) > 2 * CHECKPOINT_PAGES
    assert db.stat().st_size == empty  # a blocking checkpoint would have written here
    disk.free.set()
    number = until_moved(store, number)
    number = commit(store, number, 1, 100)
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def test_rest_wait_is_bounded(db: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(db)
    number = until_moved(store, 1)
    monkeypatch.setattr(module, "REST_S", 0.05)
    disk.moving.clear()
    number = commit(store, number, 1, 100)
    number = commit(store, number, 10, 100)
    assert of(store)._step is Step.REST  # unchanged: the move is still blocked
    assert not holds(db, number - 1)
    with closing(open_reader(db)) as reader:
        assert reader.execute("SELECT count(*) FROM ticks").fetchone() == (number - 1,)
    disk.moving.set()
    answered(of(store))
    number = until_moved(store, number)
    number = commit(store, number, 1, 100)
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def test_very_long_log_is_waited_for(db: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(db)
    looks: list[float | None] = []

    class Counted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            looks.append(timeout)
            return super().wait(timeout)

    of(store)._rest_done = Counted()
    number = until_moved(store, 1)
    monkeypatch.setattr(module, "MAX_LOG_PAGES", CHECKPOINT_PAGES)
    monkeypatch.setattr(module, "REST_S", 0.05)
    disk.moving.clear()
    writer = threading.Thread(target=commit, args=(store, number, 1, 100))
    writer.start()
    wait_until(lambda: len(looks) > 3, "the writer looks again")
    assert of(store)._step is Step.REST
    disk.moving.set()
    writer.join(30)
    assert not writer.is_alive()
    assert of(store)._pages_in_log == 0
    store.close()


def test_grown_log_is_truncated(db: Path) -> None:
    store = opened(db)
    number = commit(store, 1, 1)
    with closing(open_reader(db)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM ticks").fetchall()  # while this reader is open, the log cannot be restarted
        while os.stat(f"{db}-wal").st_size < MAX_LOG_FILE_BYTES + PAGE_BYTES * CHECKPOINT_PAGES:
            number = commit(store, number, 10, 100)
    number = until_moved(store, number)
    number = commit(store, number, 3, 100)  # one commit waits for the rest, the next restarts the log
    size = os.stat(f"{db}-wal").st_size
    store.close()
    assert size <= MAX_LOG_FILE_BYTES


def test_log_of_linked_database(tmp_path: Path, db: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(db)
    store = opened(link)
    number = until_moved(store, 1)
    number = commit(store, number, 1, 100)
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def test_deleted_database_is_not_recreated(db: Path) -> None:
    db.touch()
    fd = os.open(db, os.O_RDWR)
    db.unlink()
    checkpointer = Checkpointer(db, fd)
    checkpointer.start()
    checkpointer.add_pages(SYNC_PAGES)
    checkpointer.close()
    os.close(fd)
    assert checkpointer.failure is not None
    assert not list(db.parent.iterdir())


def test_replaced_database_is_not_touched(db: Path) -> None:
    db.touch()
    fd = os.open(db, os.O_RDWR)
    db.unlink()
    with closing(sqlite3.connect(db)) as con:
        con.execute("CREATE TABLE theirs (id)")
    checkpointer = Checkpointer(db, fd)
    checkpointer.start()
    checkpointer.close()
    os.close(fd)
    assert "is another file now" in str(checkpointer.failure)
    assert [path.name for path in db.parent.iterdir()] == [db.name]


def test_unmovable_long_log_ends_commits(db: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOG_PAGES", 2 * CHECKPOINT_PAGES)
    store = opened(db)
    disk.refusing = True
    number = 1
    while of(store).failure is None and number < 100_000:
        number = commit(store, number, 1, 100)
        wait_until(lambda: of(store)._step is Step.IDLE or of(store).failure, "an answer of the disk")
    assert disk.moves == 2
    with pytest.raises(StorageError, match="cannot move the log into it: disk I/O error"):
        commit(store, number, 1)
    store.close()


def test_failed_checkpointer_stops_commits(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_: Checkpointer) -> closing[sqlite3.Connection]:
        raise sqlite3.OperationalError("too many open files")

    monkeypatch.setattr(Checkpointer, "_connect", connect)
    store = opened(db)
    of(store).join(30)
    with pytest.raises(StorageError, match="cannot move the log into it: too many open files"):
        commit(store, 1, 1)
    with pytest.raises(StorageError, match="cannot move the log into it"):
        store.delete_expired(1.0)
    store.close()
    with closing(open_reader(db)) as reader:
        assert reader.execute("SELECT count(*) FROM ticks").fetchone() == (0,)


def test_failed_log_sync_is_ignored(db: Path, disk: Disk) -> None:
    store = opened(db)
    disk.broken = f"{db}-wal"
    number = until_moved(store, 1)
    number = commit(store, number, 1, 100)
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def half_moved(db: Path, store: Store) -> int:
    """Move as much of the log as an open reader allows; the rest cannot be moved. Returns the next number."""
    number = commit(store, 1, 10, 100)
    with closing(open_reader(db)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM ticks").fetchall()
        while of(store)._step is not Step.MOVED and of(store).failure is None:
            number = commit(store, number, 1, 100)
            wait_until(lambda: of(store)._step in (Step.IDLE, Step.MOVED) or of(store).failure, "an answer of the disk")
    return number


def test_partial_move_is_synced(db: Path, disk: Disk) -> None:
    store = opened(db)
    half_moved(db, store)
    assert disk.synced[-2:] == [f"{db}-wal", str(db)]
    store.close()


def test_failed_database_sync_is_repeated_at_next_start(tmp_path: Path, db: Path, disk: Disk) -> None:
    store = opened(db)
    later = tmp_path / "later" / db.name
    later.parent.mkdir()
    store._con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    # From here on no move reaches the disk. (Another process copies, because closing the file here would drop locks.)
    subprocess.run(["cp", db, later], check=True)
    disk.broken = str(db)
    number = half_moved(db, store)
    with pytest.raises(StorageError, match=r"cannot move the log into it: .*the disk is gone"):
        commit(store, number, 1)
    with pytest.raises(StorageError, match="cannot move the log into it"):
        store.end_run(14, 2000)
    store.close()
    # Another process that writes meanwhile neither restarts the log nor is the last to close it.
    subprocess.run([sys.executable, "-c", SOMEBODY_ELSE, str(db)], check=True)
    shutil.copy(f"{db}-wal", f"{later}-wal")
    with closing(sqlite3.connect(later)) as con:
        assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert con.execute("SELECT count(*) FROM ticks").fetchone() == (number - 1,)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_failed_move_fails_no_commit(db: Path, disk: Disk) -> None:
    store = opened(db)
    empty = db.stat().st_size
    disk.refusing = True
    number = 1
    for moves in (1, 2):
        while disk.moves < moves:
            number = commit(store, number, 1, 100)
            answered(of(store))
        assert of(store)._step is Step.IDLE  # without a move there is no rest
        assert of(store)._pages_unmoved == 0
    assert db.stat().st_size == empty
    disk.refusing = False
    number = until_moved(store, number)
    number = commit(store, number, 1, 100)
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def test_retention_adds_pages(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(db)
    commit(store, 1, 1, 20_000)
    store.write(chains(20_001, 1, now_ms(), now_ms()), AdmissionCounters(), StageCounters(), FeedState(), ())
    answered(of(store))
    page_counts: list[int] = []
    wrote = of(store).add_pages

    def noted(pages: int) -> None:
        page_counts.append(pages)
        wrote(pages)

    monkeypatch.setattr(of(store), "add_pages", noted)
    slices = 0
    while store.delete_expired(1.0).rows:
        slices += 1
    store.close()
    assert slices > 15
    assert len(page_counts) == slices


def test_power_durability_has_no_checkpointer(db: Path, disk: Disk) -> None:
    store = opened(db, "power")
    commit(store, 1, SYNC_PAGES)
    assert disk.synced == []
    commit(store, SYNC_PAGES + 1, 50, 100)
    pages = pages_of_log(db)
    store.close()
    assert AUTOCHECKPOINT_PAGES["power"] <= pages < AUTOCHECKPOINT_PAGES["power"] + 100
    assert disk.synced == []
    assert disk.moves == 0
