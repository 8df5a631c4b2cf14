"""The server's side of a WebSocket that can tell whether what was written has left for the kernel."""

from __future__ import annotations

from websockets.asyncio.server import ServerConnection

from proofs.mock_exchange.protocols.wire import Wire


class Socket(ServerConnection):
    """Knows whether what was written has left for the kernel: with write_limit=0 it pauses until it has."""

    stalled = False
    resumes = 0
    #: The protocol the upgrade request asked for.
    wire: Wire | None = None

    def pause_writing(self) -> None:
        self.stalled = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stalled = False
        self.resumes += 1
        super().resume_writing()
