"""The checkpointer: a thread that syncs and checkpoints the write-ahead log, so that the writer need not wait for it.

With synchronous=NORMAL only a checkpoint waits for the disk: for the whole log, while the writer and behind it the
pipeline stand still. So a thread with its own connection syncs the log as it grows, and when it is long moves it into
the database while commits continue. SQLite restarts a log only when all of it is moved at the moment of a commit. For
the rest, the commits of a few milliseconds, the writer waits, but not when the disk stands still; then the log grows
instead (docs/bench.md has the figures). Syncing the log also leaves less for a power cut to destroy.

Nothing else checkpoints while an engine runs. Two connections that do can meet a bug of SQLite up to 3.51.2: one begins
a checkpoint when everything is moved, and the other restarts the log (sqlite.org/wal.html#walresetbug).

The writer and this thread take turns through `_step`: each writes it only when it is its turn, so no lock is needed.
"""

import os
import sqlite3
import threading
from contextlib import closing, suppress
from enum import Enum, auto
from pathlib import Path

# Pages between two syncs, which are about ten commits, and between two checkpoints.
SYNC_PAGES = 128
CHECKPOINT_PAGES = 2000
# The writer waits at most this long for the rest, which takes 1 to 4 ms as a rule; with a log of MAX_LOG_PAGES it waits
# until the rest is moved.
REST_S = 0.05
MAX_LOG_PAGES = 16_000


class Step(Enum):
    """Whose turn it is: IDLE and MOVED are the writer's turn, the others the thread's."""

    IDLE = auto()
    SYNC = auto()  # sync the log
    BULK = auto()  # sync the log and move it, while commits continue
    MOVED = auto()  # BULK is done; the rest is what was committed meanwhile
    REST = auto()  # move the rest, while the writer waits


class Checkpointer(threading.Thread):
    """The thread that syncs the write-ahead log of a database and moves it into the database.

    `database_fd`: a descriptor of the database, to be closed after everything else, because closing one drops SQLite's
    locks. `failure`: why the log will not be moved any more, so nothing should be committed. `holds_log_open`: after a
    failed sync the thread keeps the log in use; then `database_fd` must stay open until the process ends.
    """

    def __init__(self, database: Path, database_fd: int) -> None:
        super().__init__(name="checkpointer", daemon=True)
        self.failure: Exception | None = None
        self.holds_log_open = False
        self._database = database.resolve()  # SQLite puts the log beside the real file, not beside a link to it
        self._database_fd = database_fd
        self._pages_unsynced = self._pages_unmoved = 0  # since the last request for a sync, and for a checkpoint
        self._pages_in_log = 0  # since the log was restarted
        self._step = Step.IDLE
        self._moved_all = False  # by the last checkpoint
        self._request = threading.Event()
        self._rest_done = threading.Event()
        self._closed = False
        self._never = threading.Event()  # is never set
        self._ended = threading.Event()  # the thread has ended, or waits until the process ends

    def add_pages(self, pages: int) -> None:
        """Called by the writer: `pages` were added to the log. Waits for the disk, rarely, and at most REST_S.

        It waits longer only where the log has MAX_LOG_PAGES: a log that is never moved would fill the disk.
        """
        self._pages_unsynced += pages
        self._pages_unmoved += pages
        self._pages_in_log += pages
        if self._step is Step.MOVED:
            self._rest_done.clear()
            self._request_step(Step.REST)
            while not self._rest_done.wait(REST_S) and self._pages_in_log >= MAX_LOG_PAGES:
                pass
            if self._rest_done.is_set() and self._moved_all:
                self._pages_in_log = 0
        elif self._step is Step.IDLE:
            if self._pages_unmoved >= CHECKPOINT_PAGES:
                self._request_step(Step.BULK)
            elif self._pages_unsynced >= SYNC_PAGES:
                self._request_step(Step.SYNC)

    def _request_step(self, step: Step) -> None:
        self._pages_unsynced = 0
        if step is not Step.SYNC:
            self._pages_unmoved = 0
        self._step = step
        self._request.set()

    def close(self) -> None:
        """End the thread. Waits for its present step, as closing the database does."""
        self._closed = True
        self._request.set()
        self._ended.wait()
        if not self.holds_log_open:
            self.join()

    def run(self) -> None:
        try:
            with self._connect() as con, Path(f"{self._database}-wal").open("rb") as log:
                while True:
                    self._request.wait()
                    self._request.clear()  # before the look at `_closed`, so that `close` is not overlooked
                    if self._closed:
                        break
                    self._run_step(self._step, con, log.fileno())
        except Exception as error:  # noqa: BLE001 - whatever ended it, the log is not moved any more
            self.failure = error
        finally:
            self._ended.set()
            self._rest_done.set()

    def _run_step(self, step: Step, con: sqlite3.Connection, log: int) -> None:
        """Run one step, and give the turn back to the writer."""
        if step is not Step.REST:
            # Linux reports a failed write to every descriptor: SQLite gets it through its own when it moves the log.
            with suppress(OSError):
                os.fdatasync(log)
        moved = step is not Step.SYNC and self._move_log(con)
        self._step = Step.MOVED if step is Step.BULK and moved else Step.IDLE
        if step is Step.REST:
            self._rest_done.set()

    def _move_log(self, con: sqlite3.Connection) -> bool:
        """Move the log into the database; whether it was possible. A failure loses nothing: the log has the rows."""
        try:
            busy, pages, moved = con.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            self._moved_all = False
            if self._pages_in_log >= MAX_LOG_PAGES:
                raise
            return False
        self._moved_all = not busy and pages == moved
        try:
            # SQLite syncs the database only when no commit happened meanwhile, and never moves the same pages again.
            os.fdatasync(self._database_fd)
        except OSError as error:
            self.failure = error
            self._hold_log_open(con)
        return not busy

    def _hold_log_open(self, con: sqlite3.Connection) -> None:
        """Never returns. While this connection reads, SQLite neither restarts nor deletes the log.

        The next start moves all of it again, once no other process has the database open.
        """
        with suppress(sqlite3.Error):
            con.execute("BEGIN")
            con.execute("SELECT 1 FROM sqlite_schema").fetchone()
        self.holds_log_open = True
        self._ended.set()
        self._rest_done.set()
        self._never.wait()

    def _connect(self) -> closing[sqlite3.Connection]:
        # At once and without creating a file, because the writer's file may be deleted or replaced later.
        con = sqlite3.connect(f"{self._database.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0)
        if os.stat(self._database).st_ino != os.fstat(self._database_fd).st_ino:
            con.close()
            raise OSError(f"{self._database} is another file now than the one that was opened")
        with suppress(sqlite3.Error):  # another process may hold a lock
            con.execute("SELECT 1 FROM sqlite_schema").fetchone()  # opens the log as well
        return closing(con)
