"""Finds the connections that have something to read, with one `epoll` for all of them.

Reads are spaced, as a network card spaces its interrupts: one read of twenty frames costs an eighth of twenty reads of
one frame. Measured with and without (docs/bench.md): half the CPU at 10,000 frames a second, a fifth less at 100,000,
for a delay of at most READ_EVERY_S. Frames that arrive less often are read at once.
"""

import select
import socket
import time
from contextlib import suppress

from hybrid_engine.ingest.session import Session
from hybrid_engine.ingest.source_state import SourceState

READ_EVERY_S = 0.0003


class ConnectionPoller:
    """Knows the open connections. Only `wake` may be called from another thread: it writes to a socket pair."""

    def __init__(self) -> None:
        self._epoll = select.epoll()  # not `selectors`, which costs a tenth of the work for one frame
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        self._wakeup_receiver.setblocking(False)
        self._wakeup_fd = self._wakeup_receiver.fileno()
        self._epoll.register(self._wakeup_fd, select.EPOLLIN)
        self._sessions: dict[int, tuple[Session, SourceState]] = {}  # by the file descriptor of the connection
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
        for fd, _ in self._epoll.poll(0.0 if sessions else wait_s, len(self._sessions) + 1):
            if fd == self._wakeup_fd:
                self._wakeup_receiver.recv(4096)
                woken = True
            else:
                session, source = self._sessions[fd]
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
        self._epoll.register(session.fileno, select.EPOLLIN)
        self._sessions[session.fileno] = session, source

    def close_session(self, session: Session) -> None:
        """Close a connection and forget it."""
        session.open = False
        self._pending.pop(session, None)
        del self._sessions[session.fileno]
        self._epoll.unregister(session.fileno)
        session.connection.close()

    def close(self) -> None:
        for resource in (self._epoll, self._wakeup_receiver, self._wakeup_sender):
            resource.close()
