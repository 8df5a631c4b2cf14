"""The log: one JSON object a line on stdout, `{"timestamp","level","fields":{"message",...},"target"}`.

The format is that of the first system, so that its readers keep working. journald stores and rotates the lines.
"""

import json
import os
import select
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partialmethod

from hybrid_engine.runtime.address import hide_addresses

LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40}

_threshold = LEVELS["INFO"]
_lock = threading.Lock()


def set_level(name: str) -> None:
    """From now on print lines of level `name` (DEBUG, INFO, WARN, ERROR) and above."""
    global _threshold
    _threshold = LEVELS[name]


class Logger:
    """Writes log lines with one `target`, the name of the component that they come from. Safe to use in any thread."""

    def __init__(self, target: str) -> None:
        self._target = target

    def _write(self, level: str, message: str, /, **fields: object) -> None:
        if LEVELS[level] < _threshold:
            return
        with _lock, suppress(OSError):  # nobody reads the log any more; the engine's work is the store, and goes on
            _output.write(_format(level, self._target, {"message": message, **fields}))

    debug = partialmethod(_write, "DEBUG")
    info = partialmethod(_write, "INFO")
    warn = partialmethod(_write, "WARN")
    error = partialmethod(_write, "ERROR")


def _format(level: str, target: str, fields: dict[str, object]) -> str:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    about = {"timestamp": now, "level": level, "fields": _hide(fields), "target": target}
    return json.dumps(about, separators=(",", ":"), default=_describe) + "\n"


class _Output:
    """Writes lines to stdout, and never waits for who reads it: where a pipe is full, lines are lost, and counted."""

    def __init__(self) -> None:
        self._rest = b""  # of a line that was begun
        self._lost = 0

    def write(self, line: str) -> None:
        try:
            number = sys.stdout.fileno()
        except (OSError, ValueError, AttributeError):  # a text stream without a file, as tests have
            sys.stdout.write(line)
            return
        self._rest = _write_now(number, self._rest)
        if self._rest:
            self._lost += 1
            return
        if self._lost:
            told = {"message": "the log was not read, lines of it are lost", "lost": self._lost}
            self._rest, self._lost = _write_now(number, _format("WARN", "hybrid_engine", told).encode()), 0
        self._rest += _write_now(number, line.encode()) if not self._rest else line.encode()


def _write_now(number: int, data: bytes) -> bytes:
    """Write what a file takes without waiting. Returns the rest."""
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    while data and poll.poll(0):  # then a pipe has room for PIPE_BUF bytes
        data = data[os.write(number, data[: select.PIPE_BUF]) :]
    return data


def _hide(value: object) -> object:
    """A field without what is secret in the addresses of its texts: an error of a library may name one."""
    if isinstance(value, str):
        return hide_addresses(value)
    if isinstance(value, dict):
        return {key: _hide(item) for key, item in value.items()}
    return [_hide(item) for item in value] if isinstance(value, list | tuple) else value


def _describe(value: object) -> str:
    return hide_addresses(str(value))


_output = _Output()


class LogRateLimiter:
    """Lets one warning pass every `every_s` seconds and counts those it held back. For one thread."""

    def __init__(self, log: Logger, every_s: float = 5.0) -> None:
        self._log = log
        self._every_s = every_s
        self._next = 0.0
        self._held_back = 0

    def warn(self, message: str, **fields: object) -> None:
        """Write the line, with the number of those held back before it, or hold it back."""
        now = time.monotonic()
        if now < self._next:
            self._held_back += 1
            return
        held_back, self._held_back = self._held_back, 0
        self._next = now + self._every_s
        self._log.warn(message, **fields, held_back=held_back)
