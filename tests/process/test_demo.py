"""`make demo` at a terminal: Ctrl-C goes to the whole foreground process group, and every process ends."""

from __future__ import annotations

import errno
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

COLUMNS = 80


class Terminal:
    """The demo in the foreground of a terminal of 80 columns."""

    def __init__(self, scratch: Path) -> None:
        environment = {**os.environ, "TMPDIR": str(scratch), "COLUMNS": str(COLUMNS), "LINES": "24"}
        argv = [sys.executable, "-m", "proofs.demo", "--rate", "50"]
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, environment)
        self.output = ""

    def until(self, text: str, times: int = 1, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while self.output.count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} {times} times: not within {timeout_s} s:\n{self.output}"
            assert self._read(), f"{text!r} {times} times: it ended:\n{self.output}"

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def end(self) -> int:
        """Read until every process has closed the terminal. Returns the demo's exit status."""
        while self._read():
            pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def hang_up(self) -> int:
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        try:
            new = os.read(self._fd, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # raised when no process has the terminal open any more
                raise
            return False
        self.output += new.decode()
        return bool(new)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    created = Terminal(tmp_path)
    yield created
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(created.pid, signal.SIGKILL)
        os.waitpid(created.pid, 0)


def processes(scratch: Path) -> dict[int, str]:
    """Processes that were started with this directory for temporary files, with their command lines."""
    result, mark = {}, f"TMPDIR={scratch}\0".encode()
    for entry in os.scandir("/proc"):
        with suppress(OSError):
            if entry.name.isdigit() and mark in Path(entry.path, "environ").read_bytes():
                result[int(entry.name)] = Path(entry.path, "cmdline").read_text().replace("\0", " ")
    return result


def remaining(scratch: Path) -> list[str]:
    return [*(path.name for path in scratch.iterdir()), *processes(scratch).values()]


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def printed(message: str) -> list[str]:
    """Every text that the terminal showed: those between two carriage returns, and the lines."""
    return [text.rstrip() for line in message.split("\r\n") for text in line.split("\r") if text.strip()]


def test_ctrl_c_leaves_nothing(terminal: Terminal, tmp_path: Path) -> None:
    terminal.until("stored ", times=3)
    exchange, engine = (pid for pid in processes(tmp_path) if pid != terminal.pid)
    groups = {os.getpgid(exchange), os.getpgid(engine)}
    assert not groups & {terminal.pid}, "Ctrl-C is the demo's alone: an exchange that hears it closes on the engine"
    terminal.type(b"\x03")
    assert terminal.end() == 0
    assert "source failed" not in terminal.output
    assert "Traceback" not in terminal.output
    *_, final, ended = printed(terminal.output)
    assert ended == "engine ended with exit code 0"
    counted = dict(zip(final.split()[::2], map(int, final.split()[1::2]), strict=True))
    assert counted["received"] == counted["stored"] > 0
    counters = [line for line in printed(terminal.output)[:-2] if line.startswith("received ")]
    assert all(len(line) < COLUMNS for line in counters), "a longer one could not be written over"
    assert remaining(tmp_path) == []


def test_ctrl_c_before_the_engine_starts(terminal: Terminal, tmp_path: Path) -> None:
    terminal.until("Ctrl-C ends it")
    terminal.type(b"\x03\x03")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.output
    assert remaining(tmp_path) == []


def test_closed_terminal_leaves_nothing(terminal: Terminal, tmp_path: Path) -> None:
    terminal.until("stored ")
    terminal.hang_up()
    assert remaining(tmp_path) == []


def test_without_a_terminal_it_prints_lines(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "proofs.demo", "--rate", "50", "--seconds", "2"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "\r" not in process.stdout
    assert remaining(tmp_path) == []
