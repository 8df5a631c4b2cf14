"""Talk to a running exchange's control channel. Needs nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any


class ControlError(Exception):
    """The exchange refused a command (the message is its own), or could not be reached."""


class Control:
    """address: "host:port" or "unix:/path", as the exchange's ready line names it."""

    def __init__(self, address: str, timeout: float = 10.0) -> None:
        self.address = address
        self._timeout = timeout

    def stats(self, brief: bool = False) -> dict[str, Any]:
        """Everything counted since the start; `brief` without the connections one by one."""
        return self._ask("GET", "/stats?brief=1" if brief else "/stats")

    def command(self, name: str, **args: Any) -> dict[str, Any]:
        """Tell it; the answer has `at_ms` and `mono_ns`, when it took effect."""
        return self._ask("POST", "/command", {"command": name, **args})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = self._connect()
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ControlError(f"no answer from the exchange's control at {self.address}: {error!r}") from None
        finally:
            connection.close()
        if response.status != 200:
            raise ControlError(str(answer.get("error")))
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        if not self.address.startswith("unix:"):
            return http.client.HTTPConnection(self.address, timeout=self._timeout)
        connection = http.client.HTTPConnection("localhost", timeout=self._timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(self._timeout)
        try:
            connection.sock.connect(self.address.removeprefix("unix:"))
        except OSError as error:
            connection.sock.close()
            raise ControlError(f"no exchange at {self.address}: {error.strerror}") from None
        return connection
