"""Which connections have something to read: one `select` for all of them."""

import selectors
import socket
from contextlib import suppress
from typing import NamedTuple

from hybrid_engine.ingest.link import Link
from hybrid_engine.ingest.session import Session


class Ready(NamedTuple):
    """`rung`: another thread has news as well."""

    sessions: list[tuple[Session, Link]]
    rung: bool


class Listener:
    """Knows the open connections. `ring` wakes it from any thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._more: dict[Session, Link] = {}  # connections that hold more than their socket shows

    def ring(self) -> None:
        with suppress(OSError):  # a connection that comes late finds nobody to wake
            self._rope.send(b".", socket.MSG_DONTWAIT)

    def ready(self, wait_s: float) -> Ready:
        """Connections with something to read; waits at most `wait_s` for one, or for the bell."""
        ready, self._more = self._more, {}
        rung = False
        for key, _ in self._selector.select(0.0 if ready else wait_s):
            if key.data is None:
                self._bell.recv(4096)
                rung = True
            else:
                session, link = key.data
                ready[session] = link
        return Ready(list(ready.items()), rung)

    def holds_more(self, session: Session, link: Link) -> None:
        """It has something to read, whatever its socket shows."""
        self._more[session] = link

    def open(self, session: Session, link: Link) -> None:
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
