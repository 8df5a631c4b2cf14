"""The log: one JSON object a line on stdout, `{"timestamp","level","fields":{"message",...},"target"}`.

The format is that of the first system, so that its readers keep working. journald stores and rotates the lines.
"""

import json
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
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        about = {
            "timestamp": now,
            "level": level,
            "fields": _hide({"message": message, **fields}),
            "target": self._target,
        }
        line = json.dumps(about, separators=(",", ":"), default=_describe)
        with _lock, suppress(OSError):  # nobody reads the log any more; the engine's work is the store, and goes on
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    debug = partialmethod(_write, "DEBUG")
    info = partialmethod(_write, "INFO")
    warn = partialmethod(_write, "WARN")
    error = partialmethod(_write, "ERROR")


def _hide(value: object) -> object:
    """A field without what is secret in the addresses of its texts: an error of a library may name one."""
    if isinstance(value, str):
        return hide_addresses(value)
    if isinstance(value, dict):
        return {key: _hide(item) for key, item in value.items()}
    return [_hide(item) for item in value] if isinstance(value, list | tuple) else value


def _describe(value: object) -> str:
    return hide_addresses(str(value))


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
