"""The control channel: HTTP on a second loopback port or a Unix socket, JSON in and out.

GET /stats            everything counted        GET /stats?brief=1    without the list of connections
GET /commands         what can be told          POST /command         {"command": "close", "code": 1001}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from typing import Any

from proofs.mock_exchange.commands import COMMANDS, CommandError
from proofs.mock_exchange.server import Exchange, ListenError, reason

LONGEST_BODY = 65_536


class ControlServer:
    """`async with ControlServer(exchange, address)`: "host:port", "unix:/path" or "none"."""

    def __init__(self, exchange: Exchange, address: str) -> None:
        self._exchange = exchange
        self.address = address
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ControlServer:
        if self.address == "none":
            return self
        try:
            if self.address.startswith("unix:"):
                path = self.address.removeprefix("unix:")
                self._server = await asyncio.start_unix_server(self._serve, path)
                os.chmod(path, 0o600)
            else:
                host, _, port = self.address.rpartition(":")
                self._server = await asyncio.start_server(self._serve, host or "127.0.0.1", int(port))
                bound = self._server.sockets[0].getsockname()
                self.address = f"{bound[0]}:{bound[1]}"
        except ValueError:
            raise ListenError(f"control {self.address!r}: expected host:port, unix:/path or none") from None
        except OSError as error:
            raise ListenError(f"cannot listen on control {self.address}: {reason(error)}") from None
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
        if self.address.startswith("unix:"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address.removeprefix("unix:"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(30):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = (head[0] + "  ").split(" ", 2)
                headers = {key.strip().lower(): value.strip() for key, _, value in (h.partition(":") for h in head[1:])}
                length = headers.get("content-length", "0")
                size = int(length) if length.isdigit() else 0
                body = await reader.readexactly(min(size, LONGEST_BODY))
                status, answer = await self._answer(method, target, body)
                data = json.dumps(answer).encode() + b"\n"
                lines = [
                    f"HTTP/1.1 {status}",
                    "Content-Type: application/json",
                    f"Content-Length: {len(data)}",
                ]
                writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + data)
                await writer.drain()
        writer.close()

    async def _answer(self, method: str, target: str, body: bytes) -> tuple[str, dict[str, Any]]:
        path, _, query = target.partition("?")
        match method, path:
            case "GET", "/stats":
                return "200 OK", self._exchange.stats(brief="brief=1" in query)
            case "GET", "/commands":
                return "200 OK", {name: one.help for name, one in sorted(COMMANDS.items())}
            case "POST", "/command":
                try:
                    told = json.loads(body)
                    if not isinstance(told, dict) or not isinstance(told.get("command"), str):
                        raise CommandError('expected {"command": name, ...}')
                    return "200 OK", await self._exchange.command(told.pop("command"), told)
                except (CommandError, ListenError, ValueError) as error:
                    return "400 Bad Request", {"ok": False, "error": str(error)}
        return "404 Not Found", {"ok": False, "error": "GET /stats, GET /commands or POST /command"}
