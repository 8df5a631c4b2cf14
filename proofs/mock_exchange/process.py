"""The mock exchange from Python: starts it as a child process, sends it commands, waits for its counts, stops it.

with MockExchange(count=2003, rate=0, close_after=1007) as exchange:
    engine = start_engine(exchange.url("binance", "btcusdt"))
    exchange.wait(sent=2003, timeout=30)
    exchange.command("http", status=451, times=-1)
    print(exchange.stats()["connections"])
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from proofs.mock_exchange.errors import MockExchangeError
from proofs.mock_exchange.protocols.registry import PATHS

START_TIMEOUT = 15.0
ANSWER_TIMEOUT = 10.0
STOP_TIMEOUT = 10.0


class StartError(MockExchangeError):
    """The exchange did not start; the message is the line that it printed."""


class ControlError(MockExchangeError):
    """The exchange refused a command (the message is its own), or did not answer (frozen, ended)."""


class MockExchange:
    """Keyword arguments are the settings (see `Settings`); it runs from `start` to `stop`, or in a `with`.

    The process ends with its parent, also when that is killed: then its standard input ends. Commands go there as JSON
    lines, and each is answered with one line on its standard output. Threads may share it: a lock lets one command at a
    time be under way.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = {**settings, "until_stdin_closes": True}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        #: Output that was read beyond the last line that was taken.
        self._pending = b""
        #: Whether a command waits for its answer; also after its caller gave up.
        self._unanswered = False
        self.ready: dict[str, Any] = {}
        #: The last stats, printed at the end; None if it was killed.
        self.final: dict[str, Any] | None = None

    def start(self) -> Self:
        """Start the process and wait until it listens. Raises StartError."""
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        script = json.dumps(self._settings, default=str)
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "proofs.mock_exchange", "--script", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C at a terminal is for whoever started it: it ends with that, not before
        )
        try:
            self.ready = self._read_line(process, START_TIMEOUT)
        except ControlError as error:
            process.kill()
            _, errors = process.communicate()
            raise StartError(errors.decode(errors="replace").strip() or str(error)) from None
        return self

    def stop(self) -> dict[str, Any] | None:
        """End it (SIGTERM) and return its final stats; calling it again does no harm."""
        process, self._process = self._process, None
        if process is None:
            return self.final
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            output, _ = process.communicate(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        for line in (self._pending + output).split(b"\n")[:-1]:  # killed, it may leave part of a line
            event = json.loads(line)
            if event.get("event") == "final":
                self.final = event["stats"]
        return self.final

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the exchange is not running"
        return self._process.pid

    @property
    def port(self) -> int:
        return int(self.ready["port"])

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal: SIGKILL, or SIGSTOP and SIGCONT to freeze and thaw it."""
        os.kill(self.pid, number)

    def url(self, kind: str = "binance", symbol: str = "btcusdt", host: str | None = None) -> str:
        """The URL for a client of this kind of source; `PATHS` names the kinds."""
        scheme = "wss" if self._settings.get("tls_cert") else "ws"
        host = host or ("localhost" if scheme == "wss" else "127.0.0.1")
        return f"{scheme}://{host}:{self.port}" + PATHS[kind].format(s=quote(symbol))

    def stats(self, brief: bool = False) -> dict[str, Any]:
        """Everything counted since the start; `brief` without the connections one by one. Raises ControlError."""
        return dict(self.command("stats", brief=brief)["stats"])

    def command(self, name: str, **args: Any) -> dict[str, Any]:
        """Carry out a command; the answer has `at_ms` and `mono_ns`, when it took effect. Raises ControlError."""
        with self._lock:
            process = self._process
            if process is None or process.stdin is None:
                raise ControlError("the mock exchange is not running")
            if self._unanswered:  # the answer that an earlier caller did not wait for comes first
                self._read_line(process, ANSWER_TIMEOUT)
                self._unanswered = False
            try:
                process.stdin.write(json.dumps({"command": name, **args}, default=str).encode() + b"\n")
                process.stdin.flush()
            except OSError:
                raise ControlError("the mock exchange has ended") from None
            self._unanswered = True
            answer = self._read_line(process, ANSWER_TIMEOUT)
            self._unanswered = False
        if not answer["ok"]:
            raise ControlError(str(answer["error"]))
        return answer

    def _read_line(self, process: subprocess.Popen[bytes], timeout: float) -> dict[str, Any]:
        """The next line of its output. Raises ControlError when there is none in time."""
        assert process.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._pending:
            if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise ControlError(f"no answer from the mock exchange within {timeout:g} s")
            chunk = os.read(process.stdout.fileno(), 65_536)
            if not chunk:
                raise ControlError("the mock exchange has ended")
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return dict(json.loads(line))

    def wait(self, timeout: float = 20.0, **at_least: int) -> dict[str, Any]:
        """Wait until every named count (sent, accepted, rejected, subscribed, open, complete ...) is at least so high.

        open=0 waits until no client is connected. Raises TimeoutError, which names the counts.
        """
        deadline = time.monotonic() + timeout
        while True:
            stats = self.stats(brief=True)
            now = {name: stats[name] for name in at_least}
            if all(
                now[name] == 0 if (name, value) == ("open", 0) else now[name] >= value
                for name, value in at_least.items()
            ):
                return stats
            if time.monotonic() > deadline:
                raise TimeoutError(f"mock exchange: waited {timeout:g} s for {at_least}, it is {now}")
            time.sleep(0.02)
