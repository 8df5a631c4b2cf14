"""The write-ahead log is synced and moved beside the writer, which waits for the last of it alone, and not for long."""

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

from hybrid_engine.domain.counters import AdmissionCounters, FeedState, StageCounters
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.storage import checkpointer as module
from hybrid_engine.storage.checkpointer import CHECKPOINT_PAGES, SYNC_PAGES, Checkpointer, Step
from hybrid_engine.storage.database import AUTOCHECKPOINT_PAGES, MAX_LOG_FILE_BYTES, open_reader
from hybrid_engine.storage.store import Store
from tests.support.pipeline import INFO
from tests.support.process import wait_until
from tests.support.rows import batch, chains


class Disk:
    """Stands between the thread and the disk: notes what is synced and how often the log is moved, and holds either up,
    or fails it, where it is told to."""

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
        assert words == "PRAGMA wal_checkpoint(PASSIVE)"  # any other kind keeps the writer from writing
        self.moves += 1
        self.moving.wait(30)
        if self.refusing:
            raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk()
    monkeypatch.setattr(os, "fdatasync", made.fdatasync)

    class Moving(sqlite3.Connection):
        def execute(self, *words: Any) -> sqlite3.Cursor:
            if words[0].startswith("PRAGMA"):
                made.moved(*words)
            return super().execute(*words)

    def connect(checkpointer: Checkpointer) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(checkpointer._database, isolation_level=None, timeout=0, factory=Moving))

    monkeypatch.setattr(Checkpointer, "_connect", connect)
    yield made
    made.free.set()
    made.moving.set()
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
    """Commits until the bulk of the log is in the database."""
    while of(store)._step is not Step.MOVED:
        number = commit(store, number, 1, 100)
        answered(of(store))
    return number


def pages_of_log(db: Path) -> int:
    return os.stat(f"{db}-wal").st_size // (4096 + 24)  # with the frame's header


def holds(db: Path, ticks: int) -> bool:
    """What the file itself holds, without its log."""
    with closing(sqlite3.connect(f"{db.as_uri()}?mode=ro&immutable=1", uri=True)) as reader:
        found: int = reader.execute("SELECT count(*) FROM ticks").fetchone()[0]
        return found == ticks


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine's disk takes its time; the tests that are about waiting no longer say so."""
    monkeypatch.setattr(module, "REST_S", 30.0)


@pytest.fixture
def alone(db: Path, disk: Disk) -> Iterator[Checkpointer]:
    """One without a store, beside a database that somebody holds open."""
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


def test_so_many_pages_are_synced_and_fewer_are_not(alone: Checkpointer, db: Path, disk: Disk) -> None:
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
    assert opened_by_all.count(f"{db}-wal") == 1  # that of whoever holds it open


def test_a_log_gets_long_in_small_steps(alone: Checkpointer, disk: Disk) -> None:
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
        assert alone._step is Step.IDLE  # it was waited for
        assert disk.synced[whole:] == [log, *[log.removesuffix("-wal")] * 2]
        assert disk.moves == moves + 2


def test_commits_are_synced_while_more_of_them_come(db: Path, disk: Disk) -> None:
    store = opened(db)
    disk.free.clear()
    number = commit(store, 1, SYNC_PAGES)  # each has some pages
    wait_until(lambda: disk.synced == [f"{db}-wal"], "a sync of the log")
    number = commit(store, number, SYNC_PAGES)  # the disk has not answered yet
    assert len(disk.synced) == 1
    disk.free.set()
    answered(of(store))
    number = commit(store, number, 1)
    wait_until(lambda: len(disk.synced) > 1, "what came meanwhile is synced as well")
    commit(store, number, 1)
    store.close()
    assert sorted(path.name for path in db.parent.iterdir()) == ["hybrid.db"]


def test_the_log_begins_anew_before_it_is_long(db: Path) -> None:
    store = opened(db)
    number = 1
    for _ in range(150):
        number = commit(store, number, 1, 100)
        answered(of(store))
    pages = pages_of_log(db)
    store.close()
    assert CHECKPOINT_PAGES <= pages < 1.5 * CHECKPOINT_PAGES


def test_all_that_was_committed_is_moved(db: Path) -> None:
    store = opened(db)
    number = until_moved(store, 1)
    number = commit(store, number, 1, 100)  # this one waits for the rest
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def test_commits_go_on_while_the_log_is_moved(db: Path, disk: Disk) -> None:
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


def test_no_commit_waits_for_a_disk_that_does_not_sync(db: Path, disk: Disk) -> None:
    store = opened(db)
    empty = db.stat().st_size
    disk.free.clear()
    number = commit(store, 1, 200, 100)
    assert pages_of_log(db) > 2 * CHECKPOINT_PAGES
    assert db.stat().st_size == empty  # a checkpoint, which would have waited, would have written here
    disk.free.set()
    number = until_moved(store, number)
    number = commit(store, number, 1, 100)
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def test_a_commit_that_waits_for_the_rest_does_not_wait_for_a_disk_that_stands_still(
    db: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(db)
    number = until_moved(store, 1)
    monkeypatch.setattr(module, "REST_S", 0.05)
    disk.moving.clear()
    number = commit(store, number, 1, 100)
    number = commit(store, number, 10, 100)
    assert of(store)._step is Step.REST  # it still is: nobody let it move anything
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


def test_a_very_long_log_is_waited_for(db: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_log_that_had_to_grow_is_cut_back(db: Path) -> None:
    store = opened(db)
    number = commit(store, 1, 1)
    with closing(open_reader(db)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM ticks").fetchall()  # as long as this one looks, nothing can begin anew
        while os.stat(f"{db}-wal").st_size < MAX_LOG_FILE_BYTES + 4096 * CHECKPOINT_PAGES:
            number = commit(store, number, 10, 100)
    number = until_moved(store, number)
    number = commit(store, number, 3, 100)  # one waits for the rest, the next begins the log anew
    size = os.stat(f"{db}-wal").st_size
    store.close()
    assert size <= MAX_LOG_FILE_BYTES


def test_a_link_to_a_database_leads_to_its_log(tmp_path: Path, db: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(db)
    store = opened(link)
    number = until_moved(store, 1)
    number = commit(store, number, 1, 100)
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def test_a_database_that_is_gone_is_not_made_anew(db: Path) -> None:
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


def test_a_database_that_was_replaced_is_not_touched(db: Path) -> None:
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


def test_a_very_long_log_that_cannot_be_moved_ends_commits(
    db: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_what_nobody_can_move_is_not_made_longer(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_log_that_fails_to_sync_is_left_to_the_move(db: Path, disk: Disk) -> None:
    store = opened(db)
    disk.broken = f"{db}-wal"
    number = until_moved(store, 1)
    number = commit(store, number, 1, 100)
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def half_moved(db: Path, store: Store) -> int:
    """As much of the log is moved as somebody who reads allows; the rest never can be. Returns the next number."""
    number = commit(store, 1, 10, 100)
    with closing(open_reader(db)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM ticks").fetchall()
        while of(store)._step is not Step.MOVED and of(store).failure is None:
            number = commit(store, number, 1, 100)
            wait_until(lambda: of(store)._step in (Step.IDLE, Step.MOVED) or of(store).failure, "an answer of the disk")
    return number


def test_what_is_moved_in_part_is_synced(db: Path, disk: Disk) -> None:
    store = opened(db)
    half_moved(db, store)
    assert disk.synced[-2:] == [f"{db}-wal", str(db)]
    store.close()


def test_what_the_disk_did_not_take_is_moved_again_by_the_next_start(tmp_path: Path, db: Path, disk: Disk) -> None:
    store = opened(db)
    later = tmp_path / "later" / db.name
    later.parent.mkdir()
    store._con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    # Nothing that is moved from here on gets to the disk. (Not copied in here: closing a file drops a process's locks.)
    subprocess.run(["cp", db, later], check=True)
    disk.broken = str(db)
    number = half_moved(db, store)
    with pytest.raises(StorageError, match=r"cannot move the log into it: .*the disk is gone"):
        commit(store, number, 1)
    with pytest.raises(StorageError, match="cannot move the log into it"):
        store.end_run(14, 2000)
    store.close()
    # Whoever comes meanwhile and writes all the same neither begins the log anew nor is the last to close it.
    subprocess.run([sys.executable, "-c", SOMEBODY_ELSE, str(db)], check=True)
    shutil.copy(f"{db}-wal", f"{later}-wal")
    with closing(sqlite3.connect(later)) as con:
        assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert con.execute("SELECT count(*) FROM ticks").fetchone() == (number - 1,)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_move_that_fails_fails_no_commit(db: Path, disk: Disk) -> None:
    store = opened(db)
    empty = db.stat().st_size
    disk.refusing = True
    number = 1
    for moves in (1, 2):
        while disk.moves < moves:
            number = commit(store, number, 1, 100)
            answered(of(store))
        assert of(store)._step is Step.IDLE  # there is no rest of what was not moved
        assert of(store)._pages_unmoved == 0
    assert db.stat().st_size == empty
    disk.refusing = False
    number = until_moved(store, number)
    number = commit(store, number, 1, 100)
    answered(of(store))
    assert holds(db, number - 1)
    store.close()


def test_what_retention_deletes_counts_as_well(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(db)
    commit(store, 1, 1, 20_000)
    store.write(chains(20_001, 1, now_ms(), now_ms()), AdmissionCounters(), StageCounters(), FeedState(), ())
    answered(of(store))
    asked: list[int] = []
    wrote = of(store).add_pages

    def noted(pages: int) -> None:
        asked.append(pages)
        wrote(pages)

    monkeypatch.setattr(of(store), "add_pages", noted)
    slices = 0
    while store.delete_expired(1.0).rows:
        slices += 1
    store.close()
    assert slices > 15
    assert len(asked) == slices


def test_where_each_commit_waits_for_the_disk_nobody_else_does(db: Path, disk: Disk) -> None:
    store = opened(db, "power")
    commit(store, 1, SYNC_PAGES)
    assert disk.synced == []
    commit(store, SYNC_PAGES + 1, 50, 100)
    pages = pages_of_log(db)
    store.close()
    assert AUTOCHECKPOINT_PAGES["power"] <= pages < AUTOCHECKPOINT_PAGES["power"] + 100
    assert disk.synced == []
    assert disk.moves == 0
