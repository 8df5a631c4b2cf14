"""The server's side of a WebSocket, which can tell whether what was written has left for the kernel."""

from __future__ import annotations

from websockets.asyncio.server import ServerConnection

from proofs.mock_exchange.protocols.base import ExchangeProtocol


class Socket(ServerConnection):
    """Tells whether what was written has left for the kernel: with write_limit=0 it pauses until it has."""

    stalled = False
    resumes = 0
    #: That of the upgrade request; the name `protocol` is taken by websockets.
    exchange_protocol: ExchangeProtocol | None = None

    def pause_writing(self) -> None:
        self.stalled = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stalled = False
        self.resumes += 1
        super().resume_writing()
