"""The service manager's end of sd_notify: a datagram socket that records each message and its time."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from types import TracebackType


class Manager:
    """Listens at `address` (a path, or "@name" for an abstract one) until closed; `messages`: (monotonic s, text)."""

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        self.messages: list[tuple[float, str]] = []
        self._news = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self._socket.settimeout(0.2)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def env(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address}

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                text = self._socket.recv(65536).decode()
            except TimeoutError:
                continue
            with self._news:
                self.messages.append((time.monotonic(), text))
                self._news.notify_all()

    def wait(self, part: str, *, after: float = 0.0, timeout_s: float = 20.0) -> float:
        """The time of the first message with `part` after the moment `after`."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                for at, text in self.messages:
                    if at > after and part in text:
                        return at
                remaining = deadline - time.monotonic()
                assert remaining > 0, (
                    f"{part!r} did not arrive within {timeout_s} s: {[t for _, t in self.messages][-8:]}"
                )
                self._news.wait(remaining)

    def times(self, part: str) -> list[float]:
        """The times of all messages with `part`."""
        with self._news:
            return [at for at, text in self.messages if part in text]

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
