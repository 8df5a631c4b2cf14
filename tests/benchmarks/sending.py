"""Starts the sender as a process of its own."""

import json
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

CONNECT_TIMEOUT_S = 30.0
CHECKOUT = Path(__file__).parents[2]


class Sender:
    """A context manager: the sender listens inside the `with` block, and is ended after it.

    `rate` in frames a second over all connections, 0 for as fast as they are read.
    """

    def __init__(self, count: int, connections: int = 1, rate: float = 0) -> None:
        self._words = [str(count), str(connections), str(rate)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.sender", *self._words],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port: int = self._read_line()["port"]
        return self

    def start(self) -> None:
        """Wait until all connections are open, and start the sending. Raises RuntimeError when they are not in time."""
        self._read_line(CONNECT_TIMEOUT_S)
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait_until_sent(self) -> dict[str, int]:
        """Wait until everything is sent: {first_ns, last_ns, sent}, times of CLOCK_MONOTONIC."""
        return self._read_line()

    def _read_line(self, within_s: float | None = None) -> dict[str, int]:
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], within_s)[0]:
            raise RuntimeError(f"the sender printed nothing for {within_s:g} s: did what is measured start?")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the sender ended with exit code {self._process.wait()}")
        result: dict[str, int] = json.loads(line)
        return result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()  # it ends now
        if kind is not None:
            self._process.terminate()
        self._process.wait(30)
        self._process.stdout.close()
