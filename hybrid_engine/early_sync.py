"""What is committed goes to the disk as it comes, and a checkpoint follows when the disk has just answered.

With synchronous=NORMAL nobody waits for the disk but the checkpoint: for the whole of the write-ahead log, while the
writer stands still and behind it the street. A thread that has synced most of it by then leaves little to wait for,
and a disk that stands still is met by that thread first: until it answers, the log grows instead (docs/bench.md has the
figures). And there is less that a power cut can take.
"""

import os
import threading
from contextlib import suppress
from pathlib import Path

# Pages that are written between two syncs, about ten commits', and between two checkpoints.
SYNC_PAGES = 128
CHECKPOINT_PAGES = 1000


class EarlySync(threading.Thread):
    """The thread that syncs a write-ahead log."""

    def __init__(self, log: Path) -> None:
        super().__init__(name="early-sync", daemon=True)
        self._log = log
        self._pages = self._pages_of_log = 0  # since a sync was last asked for, and since the last checkpoint
        self._syncing = False  # asked for, and the disk has not answered yet
        self._of_all = False  # that sync is of a log that is long enough for a checkpoint
        self._due = threading.Event()
        self._closed = False

    def wrote(self, pages: int) -> bool:
        """So many pages were added to the log. Never waits for the disk.

        Returns whether this is the moment for a checkpoint: the log is long, and synced but for the last few commits.
        """
        self._pages += pages
        self._pages_of_log += pages
        if self._syncing:
            return False
        if self._of_all:
            self._of_all = False
            self._pages_of_log = 0
            return True
        self._of_all = self._pages_of_log >= CHECKPOINT_PAGES
        if self._of_all or self._pages >= SYNC_PAGES:
            self._pages = 0
            self._syncing = True
            self._due.set()
        return False

    def close(self) -> None:
        """Wait for a sync that is under way, as closing the database does."""
        self._closed = True
        self._due.set()
        self.join()

    def run(self) -> None:
        wanted = self._wanted()  # the log is there once something was written to it
        # Linux tells a write that failed to each descriptor: SQLite meets it with its own, at the checkpoint.
        with suppress(OSError), self._log.open("rb") as log:
            while wanted:
                os.fdatasync(log.fileno())
                self._syncing = False
                wanted = self._wanted()

    def _wanted(self) -> bool:
        """Wait until a sync is due, or nobody wants one any more."""
        self._due.wait()
        self._due.clear()
        return not self._closed
