"""The log: one JSON object a line on stdout, `{"timestamp","level","fields":{"message",...},"target"}`.

The format is that of the first system, so that its readers keep working. journald stores and rotates the lines.
"""

import json
import sys
import threading
import time
from datetime import UTC, datetime

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

    def debug(self, message: str, **fields: object) -> None:
        self._write("DEBUG", message, fields)

    def info(self, message: str, **fields: object) -> None:
        self._write("INFO", message, fields)

    def warn(self, message: str, **fields: object) -> None:
        self._write("WARN", message, fields)

    def error(self, message: str, **fields: object) -> None:
        self._write("ERROR", message, fields)

    def _write(self, level: str, message: str, fields: dict[str, object]) -> None:
        if LEVELS[level] < _threshold:
            return
        line = json.dumps(
            {
                "timestamp": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
                "level": level,
                "fields": {"message": message, **fields},
                "target": self._target,
            },
            separators=(",", ":"),
            default=str,
        )
        with _lock:
            try:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            except OSError:
                # Nobody reads the log any more. The engine's work is the store; it goes on.
                pass


class LogRateLimiter:
    """Lets one log line pass every `every_s` seconds and counts those it held back. For one thread."""

    def __init__(self, every_s: float = 5.0) -> None:
        self._every_s = every_s
        self._next = 0.0
        self._held_back = 0

    def pass_line(self) -> int | None:
        """None: do not write this line. Otherwise write it; the result is how many were held back before it."""
        now = time.monotonic()
        if now < self._next:
            self._held_back += 1
            return None
        held_back, self._held_back = self._held_back, 0
        self._next = now + self._every_s
        return held_back
