"""Connects to a source in a thread of its own: a resolver may block for longer than the watchdog allows.

The network libraries are imported in that thread too, so that READY does not wait for them.
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
    """A connection being made. `wake` is called from the attempt's thread once there is a result.

    The two threads share a queue and an event, nothing else. The attempt's thread puts its connection into the queue
    before it looks at the event, and `abandon` sets the event before it looks into the queue: whichever comes second
    closes the connection, so an abandoned attempt leaves none open.
    """

    def __init__(self, source: Source, app_symbol: str, wake: Callable[[], None]) -> None:
        self._results: queue.SimpleQueue[Connection | SourceFailed] = queue.SimpleQueue()
        self._abandoned = threading.Event()
        self._deadline = time.monotonic() + CONNECT_TIMEOUT_S

        def connect() -> None:
            try:
                from hybrid_engine.ingest.connection import Connection

                connection = Connection(source, app_symbol, CONNECT_TIMEOUT_S)
            except SourceFailed as error:
                self._results.put(error)
            except Exception as error:  # noqa: BLE001 - an unexpected error of a library fails the source, not the engine
                self._results.put(SourceFailed(f"{type(error).__name__}: {error}"))
            else:
                self._results.put(connection)
                if self._abandoned.is_set():
                    connection.close()
            wake()

        threading.Thread(target=connect, name=f"connect-{source.name}", daemon=True).start()

    def result(self) -> "Connection | None":
        """The connection, or None while it is being made. Raises SourceFailed, also after CONNECT_TIMEOUT_S."""
        try:
            result = self._results.get_nowait()
        except queue.Empty:
            if time.monotonic() < self._deadline:
                return None
            self.abandon()
            raise SourceFailed(f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
        if isinstance(result, SourceFailed):
            raise result
        return result

    def abandon(self) -> None:
        """Close the connection, now or as soon as it is made."""
        self._abandoned.set()
        try:
            result = self._results.get_nowait()
        except queue.Empty:
            return
        if not isinstance(result, SourceFailed):
            result.close()
