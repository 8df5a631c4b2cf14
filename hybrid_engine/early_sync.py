"""What is committed goes to the disk as it comes, instead of all at once when a checkpoint waits for it.

With synchronous=NORMAL nobody waits for the disk but the checkpoint: for the whole of the write-ahead log, while the
writer stands still and behind it the street. A thread that has synced most of it by then leaves little to wait for
(docs/bench.md has the figures), and less that a power cut can take.
"""

import os
import threading
from contextlib import suppress
from pathlib import Path

# Pages that are written between two syncs: a quarter of what makes a checkpoint due, about ten commits'.
SYNC_PAGES = 128


class EarlySync(threading.Thread):
    """The thread that syncs a write-ahead log."""

    def __init__(self, log: Path) -> None:
        super().__init__(name="early-sync", daemon=True)
        self._log = log
        self._pages = 0
        self._due = threading.Event()
        self._closed = False

    def wrote(self, pages: int) -> None:
        """So many pages were added to the log. Never waits for the disk."""
        self._pages += pages
        if self._pages < SYNC_PAGES:
            return
        self._pages = 0
        self._due.set()

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
                wanted = self._wanted()

    def _wanted(self) -> bool:
        """Wait until a sync is due, or nobody wants one any more."""
        self._due.wait()
        self._due.clear()
        return not self._closed
