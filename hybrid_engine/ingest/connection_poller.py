"""Finds the connections that have something to read, with one `select` for all of them.

Reads are spaced, as a network card spaces its interrupts: one read of twenty frames costs an eighth of twenty reads of
one frame. Measured with and without (docs/bench.md): half the CPU at 10,000 frames a second, a fifth less at 100,000,
for a delay of at most READ_EVERY_S. Frames that arrive less often are read at once.
"""

import selectors
import socket
import time
from contextlib import suppress

from hybrid_engine.ingest.session import Session
from hybrid_engine.ingest.source_state import SourceState

READ_EVERY_S = 0.0003


class ConnectionPoller:
    """Knows the open connections. Only `wake` may be called from another thread: it writes to a socket pair."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        self._wakeup_receiver.setblocking(False)
        self._selector.register(self._wakeup_receiver, selectors.EVENT_READ)
        self._pending: dict[Session, SourceState] = {}  # connections with data that their socket does not show
        self._read_at = 0.0  # when `poll` last returned a session

    def wake(self) -> None:
        """End a `poll` that waits."""
        with suppress(OSError):  # a late connection attempt may call this after `close`
            self._wakeup_sender.send(b".", socket.MSG_DONTWAIT)

    def poll(self, wait_s: float) -> tuple[list[tuple[Session, SourceState]], bool]:
        """Wait up to `wait_s` seconds. Returns the sessions to read, and whether another thread called `wake`."""
        sessions, self._pending = self._pending, {}
        woken = False
        for key, _ in self._selector.select(0.0 if sessions else wait_s):
            if key.data is None:
                self._wakeup_receiver.recv(4096)
                woken = True
            else:
                session, source = key.data
                sessions[session] = source
        if sessions:
            early_s = self._read_at + READ_EVERY_S - time.monotonic()
            if early_s > 0:
                time.sleep(early_s)
            self._read_at = time.monotonic()
        return list(sessions.items()), woken

    def add_pending(self, session: Session, source: SourceState) -> None:
        """Let the next `poll` return this session, whatever its socket shows."""
        self._pending[session] = source

    def register(self, session: Session, source: SourceState) -> None:
        self._selector.register(session.fileno, selectors.EVENT_READ, (session, source))

    def close_session(self, session: Session) -> None:
        """Close a connection and forget it."""
        session.open = False
        self._pending.pop(session, None)
        self._selector.unregister(session.fileno)
        session.connection.close()

    def close(self) -> None:
        for resource in (self._selector, self._wakeup_receiver, self._wakeup_sender):
            resource.close()
