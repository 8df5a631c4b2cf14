"""Starts programs for tests: with default signal dispositions, and none of them outlives its test.

A process hands ignored signals down to every program that it starts. Where the tests themselves were started with
SIGINT ignored (`nohup`, a CI's background job), Ctrl-C would reach nothing that they start.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
_started: list[Program] = []


def _ignore(*_: object) -> None:
    """A handler that does nothing. Unlike SIG_IGN, a handler is reset to the default when a program is executed."""


def stop_inheritance_of_ignored_signals() -> None:
    """From now on programs get the default disposition; this process itself goes on ignoring what it ignored.

    SIGPIPE is not among them: Python ignores it, and `subprocess` resets it for what it starts.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _ignore)


class Program(subprocess.Popen[str]):
    """A program in a session of its own. As a context manager it is killed when the block fails, else waited for."""

    def kill_session(self) -> None:
        """SIGKILL it, and whatever it started that has no session of its own."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill_session()
        super().__exit__(kind, error, trace)


def start(argv: Sequence[str], **options: Any) -> Program:
    """Start a program that ends with the test at the latest. options: those of Popen; pipes are text."""
    program = Program(argv, text=True, start_new_session=True, **options)
    _started.append(program)
    return program


def kill_all() -> None:
    """SIGKILL every program that was started, with its session."""
    while _started:
        program = _started.pop()
        program.kill_session()
        program.wait()
