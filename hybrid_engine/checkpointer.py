"""What is committed goes to the disk beside the writer, which does not wait for it.

With synchronous=NORMAL only a checkpoint waits for the disk: for the whole of the write-ahead log, while the writer
stands still and behind it the street. So a thread with a connection of its own syncs the log as it grows and, when it
is long, moves it into the database while commits go on. SQLite begins a log anew only when all of it was moved at the
moment of a commit: for the rest, a few milliseconds' commits, the writer waits, but not for a disk that stands still.
Then the log grows instead (docs/bench.md has the figures). And there is less that a power cut can take.
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
# The writer waits no longer than this for the rest; mostly 1 to 4 ms are enough.
REST_S = 0.02


class Step(Enum):
    """IDLE and MOVED are the writer's turn, the others the thread's; who has done its part passes the turn on."""

    IDLE = auto()
    SYNC = auto()  # the log is to be synced
    BULK = auto()  # the log is to be synced and moved, while commits go on
    MOVED = auto()  # it was; what was committed meanwhile is left
    REST = auto()  # that is to be moved, while the writer waits


class Checkpointer(threading.Thread):
    """The thread that syncs and moves the write-ahead log of a database."""

    def __init__(self, database: Path) -> None:
        super().__init__(name="checkpointer", daemon=True)
        self._database = database
        self._pages = self._pages_of_log = 0  # since a sync was last asked for, and since the log was last moved
        self._step = Step.IDLE
        self._due = threading.Event()
        self._done = threading.Event()
        self._closed = False

    def wrote(self, pages: int) -> None:
        """So many pages were added to the log. Waits for the disk for at most REST_S, and that rarely."""
        self._pages += pages
        self._pages_of_log += pages
        if self._step is Step.MOVED:
            self._pages_of_log = 0
            self._done.clear()
            self._ask(Step.REST)
            self._done.wait(REST_S)
        elif self._step is Step.IDLE:
            if self._pages_of_log >= CHECKPOINT_PAGES:
                self._ask(Step.BULK)
            elif self._pages >= SYNC_PAGES:
                self._ask(Step.SYNC)

    def _ask(self, step: Step) -> None:
        self._pages = 0
        self._step = step
        self._due.set()

    def close(self) -> None:
        """Wait for what is under way, as closing the database does."""
        self._closed = True
        self._due.set()
        self.join()

    def run(self) -> None:
        wanted = self._wanted()  # the log is there once something was written to it
        # Linux tells a write that failed to each descriptor: SQLite meets it with the writer's, at a checkpoint.
        with suppress(OSError, sqlite3.Error), Path(f"{self._database}-wal").open("rb") as log, self._connect() as con:
            while wanted:
                step = self._step
                if step is not Step.REST:
                    os.fdatasync(log.fileno())
                if step is not Step.SYNC:
                    # One that fails has lost nothing, and SQLite's own ones do not tell either: the log has the rows.
                    with suppress(sqlite3.Error):
                        con.execute("PRAGMA wal_checkpoint(PASSIVE)")
                self._step = Step.MOVED if step is Step.BULK else Step.IDLE
                self._done.set()
                wanted = self._wanted()

    def _connect(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self._database, isolation_level=None, timeout=0))

    def _wanted(self) -> bool:
        """Wait until something is asked for, or nobody asks any more."""
        self._due.wait()
        self._due.clear()
        return not self._closed
