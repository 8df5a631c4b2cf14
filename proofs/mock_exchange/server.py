"""The exchange: it listens, answers upgrade requests, and runs a session for each connection."""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Coroutine
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from proofs.mock_exchange.errors import MockExchangeError
from proofs.mock_exchange.ledger import now_ms
from proofs.mock_exchange.market import Market
from proofs.mock_exchange.protocols.base import UnknownPathError
from proofs.mock_exchange.protocols.registry import open_protocol
from proofs.mock_exchange.session import Session, Socket
from proofs.mock_exchange.settings import Settings, SettingsError

#: A client that does not answer a close is dropped after so many seconds.
CLOSE_TIMEOUT = 2.0
_NO_LOG = logging.getLogger("proofs.mock_exchange")
_NO_LOG.disabled = True


class ListenError(MockExchangeError):
    """Cannot listen on the port; the message names it and why."""


class Exchange:
    """`async with Exchange(settings) as exchange:` listens."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.market = Market(settings)
        self.port = settings.port
        self.behave_count = 0
        self.sessions: set[Session] = set()
        self._server: Server | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._tls: ssl.SSLContext | None = None
        if settings.tls_cert and settings.tls_key:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.sni_callback = self._count_hello
            self.load_certificate(settings.tls_cert, settings.tls_key)

    # -- life ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop_listening()
        for session in list(self.sessions):
            self.spawn(session.close(1001, "exchange stops"))
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while self.sessions and time.monotonic() < deadline:
            await self.market.wait_for_change(0.1)
        for session in list(self.sessions):
            session.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def listen(self) -> None:
        """Listen (again). Raises ListenError."""
        if self._server is not None:
            return
        settings = self.settings
        try:
            self._server = await serve(
                self._serve,
                settings.host,
                self.port,
                process_request=self._process_request,
                create_connection=Socket,
                compression=None,
                # The sessions send their own pings, so that they can stop.
                ping_interval=None,
                close_timeout=CLOSE_TIMEOUT,
                open_timeout=None,
                # Nothing is buffered here: a trade counts as sent when it has left for the kernel (for TLS: when it
                # has left for the transport below, which pauses at a "high" of 0 even when it is empty).
                write_limit=(1, 0) if self._tls else 0,
                ssl=self._tls,
                ssl_handshake_timeout=10 if self._tls else None,
                ssl_shutdown_timeout=CLOSE_TIMEOUT if self._tls else None,
                logger=_NO_LOG,
            )
        except OSError as error:
            # The system's own message: asyncio wraps it in a sentence.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error
            raise ListenError(f"cannot listen on {settings.host}:{self.port}: {why}") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop_listening(self) -> None:
        """Refuse new connections; the open ones stay."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close(close_connections=False)
        while server.is_serving():
            await asyncio.sleep(0)

    def spawn(self, job: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- connections --------------------------------------------------------------------------------------

    async def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer an upgrade request with a status, or not at all; None accepts it."""
        market = self.market
        market.ledger.requests += 1
        market.ledger.requests_ms.append(now_ms())
        market.notify()
        if market.rules.take("hang") is not None:
            before = self.behave_count
            await market.wait_until(lambda: self.behave_count != before)
        if (rule := market.rules.take("http")) is not None:
            return self._reject(connection, rule["status"], "refused on command", rule["retry_after"])
        assert isinstance(connection, Socket)
        try:
            connection.exchange_protocol = open_protocol(request.path, self.settings.trades_per_frame)
        except UnknownPathError as error:
            return self._reject(connection, 404, str(error))
        return None

    def _reject(self, connection: ServerConnection, status: int, text: str, retry_after: int | None = None) -> Response:
        self.market.ledger.rejected[str(status)] += 1
        self.market.notify()
        response = connection.respond(status, text + "\n")
        if retry_after is not None:
            response.headers["Retry-After"] = str(retry_after)
        return response

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, Socket)
        assert connection.request is not None
        assert connection.exchange_protocol is not None
        rules = self.market.rules
        session = Session(self.market, self.sessions, connection, connection.exchange_protocol, connection.request.path)
        try:
            if (rule := rules.take("accept_close")) is not None:
                for number in range(1, rule["noise"] + 1):
                    await session.send_noise(number)
                await connection.close(rule["code"])
                return
            if (rule := rules.take("silent")) is not None:
                await session.silence(rule["what"])
            if (rule := rules.take("garbage")) is not None:
                session.garbage_kind, session.garbage = rule["what"], rule["n"]
            self.sessions.add(session)
            await session.run()
        finally:
            self.sessions.discard(session)
            self.market.ledger.record_close(session.count, connection.close_code)
            self.market.notify()

    # -- what the commands use ----------------------------------------------------------------------------

    def stats(self, brief: bool = False) -> dict[str, Any]:
        """Everything counted; brief leaves out what grows with the number of connections."""
        stats = {"port": self.port, "listening": self._server is not None, **self.market.as_dict()}
        if brief:
            for key in ("connections", "accepts_ms", "requests_ms"):
                del stats[key]
        return stats

    def load_certificate(self, cert: str, key: str) -> None:
        if self._tls is None:
            raise SettingsError("tls: the exchange was started without a certificate")
        try:
            self._tls.load_cert_chain(cert, key)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise SettingsError(f"tls: cannot load {cert} with {key}: {why}") from None

    def _count_hello(self, *_: object) -> None:
        self.market.ledger.tls_hellos += 1
