"""Which connections have something to read: one `select` for all of them.

Reads are spaced, as network cards space their interrupts: one read of twenty frames costs an eighth of twenty reads of
one. Measured with and without (docs/bench.md): half the CPU at 10,000 frames a second, a fifth less at 100,000, for at
most READ_EVERY_S of delay. What comes more rarely than that is read at once.
"""

import selectors
import socket
import time
from contextlib import suppress
from typing import NamedTuple

from hybrid_engine.ingest.session import Session
from hybrid_engine.ingest.source_connection import SourceConnection

READ_EVERY_S = 0.0003


class Ready(NamedTuple):
    """`rung`: another thread has news as well."""

    sessions: list[tuple[Session, SourceConnection]]
    rung: bool


class Listener:
    """Knows the open connections. `ring` wakes it from any thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._more: dict[Session, SourceConnection] = {}  # connections that hold more than their socket shows
        self._read_at = 0.0  # when there was last something to read

    def ring(self) -> None:
        with suppress(OSError):  # a connection that comes late finds nobody to wake
            self._rope.send(b".", socket.MSG_DONTWAIT)

    def ready(self, wait_s: float) -> Ready:
        """Connections with something to read; waits at most `wait_s` for one, or for the bell.

        Somewhat longer, by at most READ_EVERY_S, where the last ones were found less than that ago.
        """
        ready, self._more = self._more, {}
        rung = False
        for key, _ in self._selector.select(0.0 if ready else wait_s):
            if key.data is None:
                self._bell.recv(4096)
                rung = True
            else:
                session, link = key.data
                ready[session] = link
        if ready:
            early_s = self._read_at + READ_EVERY_S - time.monotonic()
            if early_s > 0:
                time.sleep(early_s)
            self._read_at = time.monotonic()
        return Ready(list(ready.items()), rung)

    def holds_more(self, session: Session, link: SourceConnection) -> None:
        """It has something to read, whatever its socket shows."""
        self._more[session] = link

    def open(self, session: Session, link: SourceConnection) -> None:
        self._selector.register(session.fileno, selectors.EVENT_READ, (session, link))

    def drop(self, session: Session) -> None:
        """Close a connection."""
        session.open = False
        self._more.pop(session, None)
        self._selector.unregister(session.fileno)
        session.connection.close()

    def close(self) -> None:
        for end in (self._selector, self._bell, self._rope):
            end.close()
