"""Databases that the engine must not write to, and a disk that it cannot sync: each start ends with 14 at its deadline,
is never ready, and changes nothing."""

import fcntl
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from proofs.catalog._checks import equal
from proofs.catalog._steady import STEADY_TICKS, await_ticks
from proofs.catalog.shadow import probe_output
from proofs.experiment.case import Case
from proofs.experiment.measurements import Count, figures_of
from proofs.experiment.subject import Subject, config
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Store
from proofs.host.regular_file import as_owner_of, open_regular
from proofs.host.unit import UNIT_STARTED, Entry, exits
from proofs.verdict import Check, Json

DEADLINE_S = 0.5
_SCRATCH = config(ingest_mode="SYNTHETIC", tick_interval_ms=10, flush_interval_ms=100, storage_deadline_s=DEADLINE_S)
_END_S = 8.0  # a start on a busy host, and the deadline
_NO_SYNC = "SystemCallFilter=~fsync fdatasync"
_FREE_PAGES = 36  # where the header of a database counts its free pages


@dataclass(frozen=True)
class Found:
    """What our own look showed before the fault, and with it."""

    before: str
    now: str


@dataclass(frozen=True)
class Locked:
    """How a lock of the proof's own fared."""

    lock: Literal["held"]


@dataclass(frozen=True, kw_only=True)
class End:
    """ends: statuses of the process. ready: how often systemd heard that it is. before, after: what may not change."""

    n: Count
    ends: list[int]
    ready: Count
    before: str
    after: str


def rewrite(subject: Subject, *statements: str) -> None:
    """Change the scratch database, while the engine is stopped, as its owner."""
    path = subject.store.path
    subject.announce(f"write {path}", {"sql": statements})
    with as_owner_of(path.parent), closing(sqlite3.connect(path)) as con, con:
        for statement in statements:
            con.execute(statement)


class Unusable(Case):
    """sql: of what the engine may not change; and of our own look at the fault, in `found`."""

    sql = "SELECT count(*) AS runs FROM runs"
    found = ""

    def spoil(self, subject: Subject) -> None:
        """Make the fault, while the engine is stopped."""
        raise NotImplementedError

    def look(self, store: Store, entries: Sequence[Entry]) -> str:
        """What shows the fault. entries: of the start before it; of a start with it, there are none yet."""
        return json.dumps(store.rows(self.found))

    def steady(self, subject: Subject) -> None:
        """A database of the engine's own, and nobody who uses it."""
        subject.fresh()
        subject.put("config.toml", _SCRATCH)
        self.cursor = subject.unit.cursor()
        subject.restart()
        await_ticks(subject, STEADY_TICKS)
        subject.host.do("systemctl", "stop", subject.unit.name)
        self.before = self.look(subject.recorded(), subject.unit.journal(self.cursor))

    def inject(self, subject: Subject) -> None:
        self.spoil(subject)
        self.now = self.look(subject.recorded(), [])  # before the engine may have changed it
        self.kept = json.dumps(subject.recorded().rows(self.sql))
        self.cursor = subject.unit.cursor()
        subject.restart(check=False)

    def witness(self, subject: Subject) -> Found | Locked:
        def over() -> bool:
            entries = subject.unit.journal(self.cursor, quiet=True)
            return bool(exits(entries)) or _ready(entries) > 0

        subject.host.poll("its end", _END_S, over, every=0.05)
        subject.host.do("systemctl", "stop", subject.unit.name)
        self.entries = subject.unit.journal(self.cursor)
        return Found(self.before, self.now)

    def witnessed(self, witness: Found) -> bool:
        return witness.now != witness.before

    def traced_witness(self, witness: Found, trace: Trace) -> Mapping[str, Json | Between]:
        looks = self.look(trace.store(0), trace.journal(0)), self.look(trace.store(), [])
        return figures_of(Found(*looks))

    def measure(self, subject: Subject) -> End:
        return _end(self.entries, self.kept, json.dumps(subject.recorded().rows(self.sql)))

    def traced(self, measured: End, trace: Trace) -> Mapping[str, Json | Between]:
        kept, after = (json.dumps(trace.store(number).rows(self.sql)) for number in (-2, -1))
        return figures_of(_end(trace.journal(), kept, after))

    def judge(self, measured: End) -> Sequence[Check]:
        return (
            equal("ready", measured.ready, 0, guard=True),
            equal("ended with", sorted(set(measured.ends)), [14], guard=True),
            equal("changed", measured.after, measured.before, guard=True),
        )


class Foreign(Unusable):
    name = "foreign database"
    fault = "a database of another program stands in the place of the engine's"
    sql = "SELECT name FROM sqlite_schema"
    found = "PRAGMA application_id"

    def spoil(self, subject: Subject) -> None:
        subject.fresh()
        rewrite(subject, "CREATE TABLE shopping (item TEXT)", "INSERT INTO shopping VALUES ('milk')")


class Corrupt(Unusable):
    name = "corrupt database"
    fault = "the database counts free pages that it does not have"
    found = "PRAGMA quick_check"

    def spoil(self, subject: Subject) -> None:
        subject.announce(f"write {subject.store.path}", {"at": _FREE_PAGES, "bytes": 4})
        fd = open_regular(subject.store.path, os.O_WRONLY)
        try:
            os.pwrite(fd, (7).to_bytes(4, "big"), _FREE_PAGES)
        finally:
            os.close(fd)


class Held(Unusable):
    name = "second writer"
    fault = "another program holds the lock of the one writer, as one of several"
    _fd = -1

    def spoil(self, subject: Subject) -> None:
        subject.announce(f"lock {subject.store.path}")
        self._fd = open_regular(subject.store.path)
        fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def look(self, store: Store, entries: Sequence[Entry]) -> str:
        return ""

    def witness(self, subject: Subject) -> Locked:
        super().witness(subject)
        return Locked("held")

    def witnessed(self, witness: Locked) -> bool:  # type: ignore[override]
        return True

    def traced_witness(self, witness: Locked, trace: Trace) -> Mapping[str, Json | Between]:  # type: ignore[override]
        return {}

    def release(self, subject: Subject) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class NoSync(Unusable):
    """With synchronous=NORMAL the first commit of a start syncs the head of a new log; without, nothing would."""

    name = "no sync"
    fault = f"fsync and fdatasync are refused: {_NO_SYNC}"

    def steady(self, subject: Subject) -> None:
        subject.probe("sync")
        subject.install()
        super().steady(subject)

    def spoil(self, subject: Subject) -> None:
        subject.directives.append(_NO_SYNC)
        subject.install()

    def look(self, store: Store, entries: Sequence[Entry]) -> str:
        """How fdatasync fared in the unit's sandbox."""
        return str(probe_output(entries).get("refused", {}).get("sync"))

    def witness(self, subject: Subject) -> Found:
        super().witness(subject)
        return Found(self.before, self.look(subject.recorded(), self.entries))

    def traced_witness(self, witness: Found, trace: Trace) -> Mapping[str, Json | Between]:
        looks = [self.look(trace.store(), trace.journal(number)) for number in (0, -1)]
        return figures_of(Found(*looks))

    def witnessed(self, witness: Found) -> bool:
        return witness.before == "" and witness.now not in ("", str(None))


def _ready(entries: Sequence[Entry]) -> int:
    return sum(entry.message_id == UNIT_STARTED for entry in entries)


def _end(entries: Sequence[Entry], before: str, after: str) -> End:
    return End(n=1, ends=[status for _, status in exits(entries)], ready=_ready(entries), before=before, after=after)
