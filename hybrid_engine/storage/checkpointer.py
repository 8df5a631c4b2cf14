"""What is committed goes to the disk beside the writer, which does not wait for it.

With synchronous=NORMAL only a checkpoint waits for the disk: for the whole of the write-ahead log, while the writer
stands still and behind it the street. So a thread with a connection of its own syncs the log as it grows and, when it
is long, moves it into the database while commits go on. SQLite begins a log anew only when all of it was moved at the
moment of a commit: for the rest, a few milliseconds' commits, the writer waits, but not for a disk that stands still.
Then the log grows instead (docs/bench.md has the figures). And there is less that a power cut can take.

Nobody else checkpoints while an engine runs. Two who do can meet a fault of SQLite's own, up to 3.51.2: one begins as
all is moved, and the other begins the log anew (sqlite.org/wal.html#walresetbug).
"""

import os
import sqlite3
import threading
from contextlib import closing, suppress
from enum import Enum, auto
from pathlib import Path

# Pages that are written between two syncs, about ten commits', and between two checkpoints.
SYNC_PAGES = 128
CHECKPOINT_PAGES = 2000
# The writer waits no longer than this for the rest, 1 to 4 ms as a rule; a log of so many pages it does wait for.
REST_S = 0.05
LONGEST_LOG_PAGES = 16_000


class Step(Enum):
    """IDLE and MOVED are the writer's turn, the others the thread's; who has done its part passes the turn on."""

    IDLE = auto()
    SYNC = auto()  # the log is to be synced
    BULK = auto()  # the log is to be synced and moved, while commits go on
    MOVED = auto()  # it was; what was committed meanwhile is left
    REST = auto()  # that is to be moved, while the writer waits


class Checkpointer(threading.Thread):
    """The thread that syncs and moves the write-ahead log of a database.

    `database_fd`: a descriptor of the database that is closed after everything else, for closing one drops SQLite's
    locks. `failure`: why nothing will be moved any more, and so nothing should be committed. `keeps_the_log`: it is
    still open for that, and the descriptor must stay open as well, for as long as the process lives.
    """

    def __init__(self, database: Path, database_fd: int) -> None:
        super().__init__(name="checkpointer", daemon=True)
        self.failure: Exception | None = None
        self.keeps_the_log = False
        self._database = database.resolve()  # beside which SQLite has the log, whatever links lead there
        self._database_fd = database_fd
        self._pages = self._pages_unmoved = 0  # since a sync, and since a checkpoint was last asked for
        self._pages_of_log = 0  # since it began anew
        self._step = Step.IDLE
        self._whole = False  # all of the log was moved
        self._due = threading.Event()
        self._rested = threading.Event()
        self._closed = False
        self._over = threading.Event()  # the thread has ended, or never will
        self._for_good = threading.Event()  # never set: what ends with the process

    def wrote(self, pages: int) -> None:
        """So many pages were added to the log. Waits for the disk, and that rarely, for at most REST_S.

        For longer only where the log has LONGEST_LOG_PAGES: what never comes to rest would take all of the disk.
        """
        self._pages += pages
        self._pages_unmoved += pages
        self._pages_of_log += pages
        if self._step is Step.MOVED:
            self._rested.clear()
            self._ask(Step.REST)
            while not self._rested.wait(REST_S) and self._pages_of_log >= LONGEST_LOG_PAGES:
                pass
            if self._rested.is_set() and self._whole:
                self._pages_of_log = 0
        elif self._step is Step.IDLE:
            if self._pages_unmoved >= CHECKPOINT_PAGES:
                self._ask(Step.BULK)
            elif self._pages >= SYNC_PAGES:
                self._ask(Step.SYNC)

    def _ask(self, step: Step) -> None:
        self._pages = 0
        if step is not Step.SYNC:
            self._pages_unmoved = 0
        self._step = step
        self._due.set()

    def close(self) -> None:
        """Wait for what is under way, as closing the database does."""
        self._closed = True
        self._due.set()
        self._over.wait()
        if not self.keeps_the_log:
            self.join()

    def run(self) -> None:
        try:
            with self._connect() as con, Path(f"{self._database}-wal").open("rb") as log:
                while self._wanted():
                    self._do(self._step, con, log.fileno())
        except Exception as error:  # noqa: BLE001 - whatever ended it, nobody moves the log any more
            self.failure = error
        finally:
            self._over.set()
            self._rested.set()

    def _do(self, step: Step, con: sqlite3.Connection, log: int) -> None:
        """One step, and the turn is the writer's again."""
        if step is not Step.REST:
            # Linux tells a write that failed to each descriptor: SQLite meets it with its own when it moves the log.
            with suppress(OSError):
                os.fdatasync(log)
        moved = step is not Step.SYNC and self._move(con)
        self._step = Step.MOVED if step is Step.BULK and moved else Step.IDLE
        if step is Step.REST:
            self._rested.set()

    def _move(self, con: sqlite3.Connection) -> bool:
        """Move what there is; whether something was. One that fails has lost nothing: the log has the rows."""
        try:
            busy, pages, moved = con.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            self._whole = False
            if self._pages_of_log >= LONGEST_LOG_PAGES:
                raise
            return False
        self._whole = not busy and pages == moved
        try:
            # SQLite does that only where no commit came meanwhile; what it notes as moved, it never moves again.
            os.fdatasync(self._database_fd)
        except OSError as error:
            self.failure = error
            self._keep_the_log(con)
        return not busy

    def _keep_the_log(self, con: sqlite3.Connection) -> None:
        """Never returns: while this connection is open and reads, the log neither begins anew nor goes. The next start
        moves all of it again, once no other process has the database open."""
        with suppress(sqlite3.Error):
            con.execute("BEGIN")
            con.execute("SELECT 1 FROM sqlite_schema").fetchone()
        self.keeps_the_log = True
        self._over.set()
        self._rested.set()
        self._for_good.wait()

    def _connect(self) -> closing[sqlite3.Connection]:
        # At once, and never to a file of its own making: what the writer holds may be deleted or replaced later.
        con = sqlite3.connect(f"{self._database.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0)
        if os.stat(self._database).st_ino != os.fstat(self._database_fd).st_ino:
            con.close()
            raise OSError(f"{self._database} is another file now than the one that was opened")
        with suppress(sqlite3.Error):  # somebody may lock it just now
            con.execute("SELECT 1 FROM sqlite_schema").fetchone()  # opens the log as well
        return closing(con)

    def _wanted(self) -> bool:
        """Wait until something is asked for, or nobody asks any more."""
        self._due.wait()
        self._due.clear()
        return not self._closed
