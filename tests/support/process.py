"""Runs the real `hybrid-engine` command and waits for its log lines, never for a fixed time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.support import programs

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "hybrid_engine")
# The same with short deadlines at a stop, for tests that are not about those.
HASTY = (
    sys.executable,
    "-c",
    "from hybrid_engine import cli, pipeline; pipeline.DRAIN_S = pipeline.STORE_S = 0.3; cli.main()",
)
PATIENCE_S = 20.0

Fields = dict[str, Any]
T = TypeVar("T")

# Fast enough for a test. `run_seconds` ends an engine that a killed test run has left behind.
BASE: dict[str, dict[str, Any]] = {
    "engine": {
        "tick_interval_ms": 5,
        "heartbeat_interval_secs": 0.2,
        "flush_interval_ms": 20,
        "run_seconds": 60,
        "storage_deadline_s": 0.5,
        "psi_actions": "off",  # on a busy machine it would change the sampling that the tests count on
    }
}


def wait_until(ask: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """The first true result of `ask`; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without the variables that an engine reads."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HYBRID_ENGINE__") and name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    }
    return {**inherited, **(extra or {})}


def write_slow_strategy(folder: Path, seconds: float) -> None:
    """A module `slow` beside the engine, whose strategy "slow:make" takes so long for each tick."""
    (folder / "slow.py").write_text(
        f"import time\nclass Slow:\n    def on_tick(self, tick):\n        time.sleep({seconds})\n"
        "def make(settings): return Slow()\n"
    )


def as_toml(table: Mapping[str, Any], name: str = "") -> str:
    """The text of a configuration file. JSON values are TOML values."""
    lines = [f"[{name}]"] if name else []
    lines += [f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    parts = [as_toml(v, f"{name}.{key}".lstrip(".")) for key, v in table.items() if isinstance(v, Mapping)]
    return "\n".join([*lines, *parts]) + "\n"


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


class EngineProcess:
    """A running engine. `lines`: its log lines so far, parsed."""

    def __init__(self, popen: subprocess.Popen[str], config: Path, db: Path) -> None:
        self.popen = popen
        self.config = config
        self.db = db
        self.lines: list[dict[str, Any]] = []
        self.strange: list[str] = []
        self._news = threading.Condition()
        self._ended = popen.stdout is None
        if popen.stdout is not None:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for text in self.popen.stdout:
            with self._news:
                try:
                    self.lines.append(json.loads(text))
                except ValueError:
                    self.strange.append(text)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait(
        self,
        message: str,
        where: Callable[[Fields], bool] = lambda fields: True,
        after: int = 0,
        timeout_s: float = PATIENCE_S,
    ) -> Fields:
        """The fields of the first line with this message, from line `after` on, for which `where` is true."""
        deadline = time.monotonic() + timeout_s
        observed = after
        with self._news:
            while True:
                while observed < len(self.lines):
                    fields: Fields = self.lines[observed]["fields"]
                    observed += 1
                    if fields["message"].startswith(message) and where(fields):
                        return fields
                remaining = deadline - time.monotonic()
                output = [line["fields"]["message"] for line in self.lines][-12:]
                assert remaining > 0, f"no {message!r} within {timeout_s} s; the last lines: {output}"
                assert not self._ended, f"the engine ended without {message!r}; the last lines: {output}"
                self._news.wait(remaining)

    def ready(self) -> Fields:
        return self.wait("ready")

    def heartbeat(self, where: Callable[[Fields], bool] = lambda fields: True, after: int | None = None) -> Fields:
        """The fields of the next heartbeat for which `where` is true."""
        return self.wait("HEARTBEAT", where, len(self.lines) if after is None else after)

    def messages(self, message: str) -> list[Fields]:
        """The fields of every line so far that begins with `message`."""
        with self._news:
            return [line["fields"] for line in self.lines if line["fields"]["message"].startswith(message)]

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> int:
        """Send a signal, and return the exit code."""
        self.send(number)
        return self.code(timeout_s)

    def code(self, timeout_s: float = PATIENCE_S) -> int:
        """The exit code, once the engine has ended and all its output was read."""
        code = self.popen.wait(timeout_s)
        if self.popen.stdout is not None:
            self._reader.join(PATIENCE_S)
        return code

    def final(self) -> Fields:
        """The fields of FINAL METRICS, of an engine that has ended."""
        (result,) = self.messages("FINAL METRICS")
        return result

    def last_error(self) -> Fields:
        """The fields of the last ERROR line, of an engine that has ended."""
        result: Fields = [line["fields"] for line in self.lines if line["level"] == "ERROR"][-1]
        return result

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.kill()
        self.popen.wait()


class Launcher:
    """Starts engines whose files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db = folder / "hybrid.db"
        self._started: list[EngineProcess] = []

    def write_config(self, sections: Mapping[str, Any], name: str = "config.toml") -> Path:
        """Write a configuration file: BASE, updated with `sections`."""
        merged: dict[str, Any] = {"app": {"db_path": str(self.db)}, **{k: dict(v) for k, v in BASE.items()}}
        for key, value in sections.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, Mapping) else value
        path = self.folder / name
        draft = path.with_suffix(".draft")
        draft.write_text(as_toml(merged))
        draft.rename(path)
        return path

    def write_sources(self, *sources: Mapping[str, Any]) -> None:
        """Write ws_sources.toml beside the configuration, in the order of priority."""
        tables = []
        for number, source in enumerate(sources, 1):
            named = {} if "symbols" in source else {"symbol": "BTC/USD"}
            full = {"kind": "binance", "priority": number, **named, **source}
            tables.append("[[source]]\n" + as_toml(full))
        (self.folder / "ws_sources.toml").write_text("\n".join(tables) + "\n")

    def start(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        preexec: Callable[[], None] | None = None,
        command: Sequence[str] = COMMAND,
        **sections: Any,
    ) -> EngineProcess:
        """Start `hybrid-engine run` with a configuration of these sections, and `args` appended."""
        config = self.write_config(sections)
        popen = programs.start(
            [*command, "run", "--config", str(config), *args],
            stdout=subprocess.PIPE,
            stderr=(self.folder / "stderr").open("a"),
            env=self._environment(env),
            cwd=self.folder,
            preexec_fn=preexec,
        )
        process = EngineProcess(popen, config, self.db)
        self._started.append(process)
        return process

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        # The engine can import modules (strategies) from the test's folder.
        return clean_environment({"PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}", **(extra or {})})

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def command(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run another command of hybrid-engine to its end."""
        return subprocess.run(
            [*COMMAND, *args],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self._environment(env),
            timeout=30,
            check=False,
        )

    def close(self) -> None:
        for process in self._started:
            process.kill()
