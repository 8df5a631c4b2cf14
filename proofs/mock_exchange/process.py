"""The exchange as a process of its own, from Python: started, told, waited for, stopped.

with MockExchange(count=2003, rate=0, close_after=1007) as exchange:
    engine = start_engine(exchange.url("binance", "btcusdt"))
    exchange.wait(sent=2003, timeout=30)
    exchange.command("http", status=451, times=-1)
    print(exchange.stats()["connections"])
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from proofs.mock_exchange.client import Control, ControlError

START_TIMEOUT = 15.0
STOP_TIMEOUT = 10.0

#: How each kind of source is asked for; {s} is the symbol as the exchange spells it in a path.
PATHS = {
    "binance": "/ws/{s}@trade",
    "binance_agg": "/ws/{s}@aggTrade",
    "binance_combined": "/stream?streams={s}@trade/{s}@aggTrade",
    "gemini_v1": "/v1/marketdata/{s}?heartbeat=true&bids=true&offers=true&trades=true",
    "gemini_v2": "/v2/marketdata",
    "gemini": "/gemini",
    "coinbase": "/coinbase",
    "kraken": "/v2",
}


class StartError(Exception):
    """The exchange did not start; the message is its own line."""


class MockExchange:
    """Keyword arguments are the settings (see `Settings`); it runs from `start` to `stop`, or in a `with`.

    The process ends with its parent, also when that is killed: it watches its standard input.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = {**settings, "until_stdin_closes": True}
        self._process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}
        #: The last stats, printed at the end; None if it was killed.
        self.final: dict[str, Any] | None = None

    def start(self) -> MockExchange:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        script = json.dumps(self._settings, default=str)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "proofs.mock_exchange", "--script", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C at a terminal is for whoever started it: it ends with that, not before
        )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            if not readable:
                self._process.kill()
            _, errors = self._process.communicate()
            raise StartError(errors.strip() or f"the mock exchange said nothing for {START_TIMEOUT:g} s")
        self.ready = json.loads(line)
        return self

    def stop(self) -> dict[str, Any] | None:
        """End it (SIGTERM) and return its final stats; calling it again does no harm."""
        process, self._process = self._process, None
        if process is None:
            return self.final
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            out, _ = process.communicate(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        for line in out.splitlines():
            event = json.loads(line)
            if event["event"] == "final":
                self.final = event["stats"]
        return self.final

    def __enter__(self) -> MockExchange:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the exchange is not running"
        return self._process.pid

    @property
    def port(self) -> int:
        return int(self.ready["port"])

    @property
    def control(self) -> Control:
        return Control(str(self.ready["control"]))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal: SIGKILL, or SIGSTOP and SIGCONT for a silence nobody planned."""
        os.kill(self.pid, number)

    def url(self, kind: str = "binance", symbol: str = "btcusdt", host: str | None = None) -> str:
        """The URL a client of this kind of source is given; `PATHS` names the kinds."""
        scheme = "wss" if self._settings.get("tls_cert") else "ws"
        host = host or ("localhost" if scheme == "wss" else "127.0.0.1")
        return f"{scheme}://{host}:{self.port}" + PATHS[kind].format(s=quote(symbol))

    def stats(self, brief: bool = False) -> dict[str, Any]:
        return self.control.stats(brief)

    def command(self, name: str, **args: Any) -> dict[str, Any]:
        return self.control.command(name, **args)

    def wait(self, timeout: float = 20.0, **at_least: int) -> dict[str, Any]:
        """Until every named count (sent, accepted, rejected, subscribed, open, complete ...) is so high.

        open=0 waits until nobody is connected any more. TimeoutError tells what it was instead.
        """
        deadline = time.monotonic() + timeout
        while True:
            stats = self.stats(brief=True)
            if all(
                stats[name] == 0 if name == "open" and value == 0 else stats[name] >= value
                for name, value in at_least.items()
            ):
                return stats
            if time.monotonic() > deadline:
                now = {name: stats[name] for name in at_least}
                raise TimeoutError(f"mock exchange: waited {timeout:g} s for {at_least}, it is {now}")
            time.sleep(0.02)


__all__ = ["PATHS", "ControlError", "MockExchange", "StartError"]
