"""Messages to systemd about the state of the process: ready, reloading, stopping, watchdog pings (sd_notify(3)).

Without $NOTIFY_SOCKET (a shell, a test) every call does nothing.
"""

import os
import socket
import time
from contextlib import suppress
from functools import partialmethod


class Notifier:
    """Sends datagrams to $NOTIFY_SOCKET; `watchdog_s` is WatchdogSec= in seconds, None without a watchdog."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        ours = not pid or pid == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if usec.isdigit() and int(usec) > 0 and ours else None

    def _send(self, text: str, wait_s: float = 0.0) -> None:
        if self._socket is None:
            return
        # Fails while the service manager restarts itself (daemon-reexec). WatchdogSec= allows for a missed ping.
        with suppress(OSError):
            # A service manager that does not read must not block the engine. A ping is not waited for: more follow.
            self._socket.settimeout(wait_s)
            self._socket.sendto(text.encode(), self._address)

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}", wait_s=1.0)

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", wait_s=1.0)

    watchdog = partialmethod(_send, "WATCHDOG=1")
    stopping = partialmethod(_send, "STOPPING=1")
