"""One JSON object a line on stdout: `{"timestamp","level","fields":{"message",...},"target"}`.

The form is the first system's, so that its readers keep working. journald keeps the lines; nothing here rotates.
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
    """Print lines of `name` (DEBUG, INFO, WARN, ERROR) and above from now on."""
    global _threshold
    _threshold = LEVELS[name]


class Logger:
    """A named place that lines come from (their `target`)."""

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
                # Whoever read the lines is gone. The engine's work is the store; it goes on.
                pass


class Throttle:
    """Lets one line through every `every_s` seconds and counts what it held back."""

    def __init__(self, every_s: float = 5.0) -> None:
        self._every_s = every_s
        self._next = 0.0
        self._held = 0

    def ready(self) -> int | None:
        """None: hold this line back. Otherwise: print it, and say that so many were held back before it."""
        now = time.monotonic()
        if now < self._next:
            self._held += 1
            return None
        held, self._held = self._held, 0
        self._next = now + self._every_s
        return held
