"""Connects to a source in a thread of its own: a resolver may block for longer than the watchdog allows.

The network libraries are imported in that thread too, so that READY does not wait for them.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from hybrid_engine.config.sources import Source
from hybrid_engine.ingest.failure import SourceFailed

if TYPE_CHECKING:
    from hybrid_engine.ingest.connection import Connection

CONNECT_TIMEOUT_S = 8.0


class ConnectionAttempt:
    """A connection being made, to subscribe to `symbols`. `wake` is called from its thread once there is a result.

    The two threads share a future, nothing else. It calls the callback that `abandon` adds also where the connection is
    there already, so an abandoned attempt leaves none open.
    """

    def __init__(self, source: Source, symbols: Sequence[str], wake: Callable[[], None]) -> None:
        self.symbols = symbols
        self._future: Future[Connection] = Future()
        self._deadline = time.monotonic() + CONNECT_TIMEOUT_S

        def connect() -> None:
            try:
                from hybrid_engine.ingest.connection import Connection

                self._future.set_result(Connection(source, symbols, CONNECT_TIMEOUT_S))
            except SourceFailed as error:
                self._future.set_exception(error)
            except Exception as error:  # noqa: BLE001 - an unexpected error of a library fails the source, not the engine
                self._future.set_exception(SourceFailed(f"{type(error).__name__}: {error}"))
            wake()

        threading.Thread(target=connect, name=f"connect-{source.name}", daemon=True).start()

    def result(self) -> "Connection | None":
        """The connection, or None while it is being made. Raises SourceFailed, also after CONNECT_TIMEOUT_S."""
        if self._future.done():
            return self._future.result()
        if time.monotonic() < self._deadline:
            return None
        self.abandon()
        raise SourceFailed(f"no connection within {CONNECT_TIMEOUT_S:g} s")

    def abandon(self) -> None:
        """Close the connection, now or as soon as it is made."""
        self._future.add_done_callback(lambda future: None if future.exception() else future.result().close())
