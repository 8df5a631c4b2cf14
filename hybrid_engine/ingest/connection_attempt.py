"""Connecting beside the thread that reads: a resolver may hang for longer than the watchdog waits.

The network's libraries are loaded there as well: READY waits for no source, and for nothing that only a source needs.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hybrid_engine.config.sources import Source
from hybrid_engine.ingest.failure import SourceFailed

if TYPE_CHECKING:
    from hybrid_engine.ingest.connection import Connection

CONNECT_TIMEOUT_S = 8.0


class ConnectionAttempt:
    """A connection on its way. `wake` is called, from another thread, when there is a result."""

    def __init__(self, source: Source, app_symbol: str, wake: Callable[[], None]) -> None:
        self._answer: queue.SimpleQueue[Connection | SourceFailed] = queue.SimpleQueue()
        self._abandoned = threading.Event()
        self._due = time.monotonic() + CONNECT_TIMEOUT_S

        def connect() -> None:
            try:
                from hybrid_engine.ingest.connection import Connection

                connection = Connection(source, app_symbol, CONNECT_TIMEOUT_S)
            except SourceFailed as error:
                self._answer.put(error)
            except Exception as error:  # noqa: BLE001 - a library's surprise is a failed source, not a dead engine
                self._answer.put(SourceFailed(f"{type(error).__name__}: {error}"))
            else:
                self._answer.put(connection)
                if self._abandoned.is_set():
                    connection.close()
            wake()

        threading.Thread(target=connect, name=f"connect-{source.name}", daemon=True).start()

    def result(self) -> "Connection | None":
        """The connection once it is made, None while it is not. Raises SourceFailed."""
        try:
            found = self._answer.get_nowait()
        except queue.Empty:
            if time.monotonic() < self._due:
                return None
            self.abandon()
            raise SourceFailed(f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
        if isinstance(found, SourceFailed):
            raise found
        return found

    def abandon(self) -> None:
        """Whoever comes later closes by itself; whoever came at this very moment is closed here."""
        self._abandoned.set()
        try:
            late = self._answer.get_nowait()
        except queue.Empty:
            return
        if not isinstance(late, SourceFailed):
            late.close()
