"""Reads of a database that figures rest on: recorded with their rows, and answered once more out of the recording.

So what a proof works out of rows is worked out again by the same code, from the rows that were read then.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from proofs.errors import ProofError
from proofs.host.database import Row, Store
from proofs.host.shell import Host
from proofs.verdict import Json

KIND = "rows read"
Arguments = Sequence[Json] | dict[str, Json]
Event = dict[str, Json]


class Untraced(ProofError, ValueError):
    """The recording does not have what a figure was read from; the message says what is missing."""


class RecordedStore(Store):
    """A database whose every read is recorded. unit: whose it is."""

    def __init__(self, host: Host, unit: str, path: Path) -> None:
        super().__init__(path)
        self._host, self._unit = host, unit

    def rows(self, sql: str, arguments: Arguments = ()) -> list[Row]:
        """Raises sqlite3.Error as Store does; what it raised is recorded too."""
        try:
            rows = super().rows(sql, arguments)
        except sqlite3.OperationalError as error:
            self._record(sql, arguments, [], str(error))
            raise
        self._record(sql, arguments, rows)
        return rows

    def _record(self, sql: str, arguments: Arguments, rows: Sequence[Row], error: str = "") -> None:
        lines = "\n".join(json.dumps(row) for row in rows)
        data = {"unit": self._unit, "sql": sql, "arguments": arguments, "error": error}
        self._host.recorder.write(KIND, scope=self._host.scope, stdout=lines, data=data)


class TracedStore(Store):
    """The same reads, answered by the recording. number: which of several equal ones. Raises Untraced: it has none."""

    def __init__(self, events: Sequence[Event], whole: Callable[[Event], str], unit: str, number: int) -> None:
        super().__init__(Path("/nonexistent"))
        self._events = [event for event in events if event["kind"] == KIND and event["data"]["unit"] == unit]
        self._whole, self._number = whole, number

    def rows(self, sql: str, arguments: Arguments = ()) -> list[Row]:
        due = (sql, json.loads(json.dumps(arguments)))
        reads = [event for event in self._events if (event["data"]["sql"], event["data"]["arguments"]) == due]
        worked = [event for event in reads if not event["data"]["error"]]
        try:
            event = (worked or reads)[self._number]
        except IndexError:
            raise Untraced(f"nobody read {sql.strip().partition(chr(10))[0]} of {due[1]}") from None
        if event["data"]["error"]:
            raise sqlite3.OperationalError(event["data"]["error"])
        return [json.loads(line) for line in self._whole(event).splitlines()]
