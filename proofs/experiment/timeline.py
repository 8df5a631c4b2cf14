"""A case over time, for the report: ticks stored, and lines of systemd and of the engine. No verdict rests on it."""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable

from proofs.experiment.subject import Subject
from proofs.host.unit import Entry
from proofs.verdict import Json

BUCKET_MS = 250
_MOST_MARKS = 60
# The beginnings of systemd's lines and of the engine's messages that a reader looks for, and what to call them.
_SYSTEMD = (
    ("Watchdog timeout", "watchdog timeout"),
    ("Main process exited", "main process exited"),
    ("Scheduled restart job", "restart scheduled"),
    ("Started", "started"),
    ("Stopped", "stopped"),
    ("Failed to start", "start failed"),
)
_ENGINE = (
    "connected",
    "source failed",
    "ready",
    "reloaded",
    "the database is locked, waiting for it",
    "pressure decision",
)


class Timeline:
    """Watches one case of a subject, from now until `note`."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._cursor = subject.unit.cursor()
        self._began_ms = time.time_ns() // 1_000_000

    def note(self, case: str) -> None:
        """Write what happened since into the recording; what cannot be read is left out, no verdict rests on it."""
        host = self._subject.host
        data = {
            "case": case,
            "unit": self._subject.unit.name,
            "mutant": self._subject.mutant,
            "began_ms": self._began_ms,
            "ended_ms": time.time_ns() // 1_000_000,
            "bucket_ms": BUCKET_MS,
            "ticks": self._ticks(),
            "marks": marks(self._subject.unit.journal(self._cursor, quiet=True)),
        }
        host.note("timeline", data)

    def _ticks(self) -> list[list[int]]:
        """[[milliseconds since the case began, ticks received in that bucket that are stored], ...]"""
        try:
            rows = self._subject.store.rows(
                "SELECT received_ms FROM ticks WHERE received_ms >= ? ORDER BY id", (self._began_ms,)
            )
        except sqlite3.Error:
            return []
        buckets = Counter((row["received_ms"] - self._began_ms) // BUCKET_MS * BUCKET_MS for row in rows)
        return [[at, count] for at, count in sorted(buckets.items())]


def marks(entries: Iterable[Entry]) -> list[dict[str, Json]]:
    """What a reader looks for in the journal: [{ms (wall clock), what, by}], the first of them when there are many."""
    marks: list[dict[str, Json]] = []
    for entry in entries:
        fields = entry.fields()
        if fields:
            message = str(fields.get("message", ""))
            about = fields.get("source") or fields.get("state") or ""  # of a connection, of the ladder
            what, by = f"{message} {about}".strip() if message in _ENGINE else "", "engine"
        else:
            what, by = next((name for start, name in _SYSTEMD if start in entry.message), ""), "systemd"
        if what:
            marks.append({"ms": int(entry.wall_s * 1000), "what": what, "by": by})
    return marks[:_MOST_MARKS]
