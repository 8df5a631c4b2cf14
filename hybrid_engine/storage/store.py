"""The store: what the engine writes to its database, which are whole chains, the run's row and the gaps.

One writer, many readers. Raises `DatabaseLocked` when another connection holds a lock, else `StorageError`.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from hybrid_engine.domain.accounting import AdmissionCounters, FeedState, Gap, StageCounters
from hybrid_engine.domain.events import Order, Signal, Tick, Trade
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.storage.checkpointer import Checkpointer
from hybrid_engine.storage.database import SYNCHRONOUS, lock_for_writing, open_writer, transaction, translate_errors
from hybrid_engine.storage.retention import Slice, delete_slice

# Rows that one statement inserts. Any number of rows takes few statements, and each size is prepared once.
_ROWS_PER_STATEMENT = (128, 64, 32, 16, 8, 4, 2, 1)
# An estimate of the pages that a commit adds to the write-ahead log: the last page of each table and index, and what
# the rows fill.
_PAGES_PER_COMMIT, _ROWS_PER_PAGE = 10, 15
_END_GAPS = "UPDATE gaps SET to_ms = max(from_ms, ?1) WHERE run_id = ?2 AND to_ms IS NULL"
# Of the newest run, where it has ended.
_ADD_PAUSE = (
    "INSERT INTO gaps (run_id, kind, source, symbol, from_ms, to_ms)"
    " SELECT id, 'pause', '', '', ended_ms, max(ended_ms, ?1)"
    " FROM (SELECT id, ended_ms FROM runs ORDER BY id DESC LIMIT 1) WHERE ended_ms IS NOT NULL"
)


@cache
def _insert_statement(into: str, row: str, width: int, count: int) -> str:
    """The statement for `count` rows of `width` values each; `row` names the values of a row as {0}, {1} ..."""
    placeholders = [[f"?{first + k}" for k in range(width)] for first in range(1, count * width + 1, width)]
    return f"INSERT INTO {into} VALUES " + ", ".join(row.format(*names) for names in placeholders)


class RunInfo(NamedTuple):
    """The columns of `runs` that are known when a run starts."""

    version: str
    release_digest: str
    config_digest: str
    mode: str
    ingest_mode: str
    sample_every: int


@dataclass(slots=True)
class Batch:
    """The rows of one transaction: whole chains, in the order of the pipeline."""

    ticks: list[Tick] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ticks) + len(self.signals) + len(self.orders) + len(self.trades)


class Store:
    """The writer's connection: opened once, used by one thread at a time."""

    def __init__(self, path: Path, durability: str = "normal") -> None:
        """Open and check the database; create it where it is new. Raises as `open_writer`, with nothing changed."""
        self._path = str(path)
        self.run_id = 0
        self.first_ids = (1, 1)
        self.last_state: str | None = None  # of the run before
        self._lock_fd = lock_for_writing(path)
        try:
            self._con, self.pragmas = open_writer(path, durability)
            # what is in force, as it was read back
            self.durability = next(name for name, sync in SYNCHRONOUS.items() if sync == self.pragmas["synchronous"])
        except BaseException:
            os.close(self._lock_fd)
            raise
        # With "power" each commit waits for the disk, so there is nothing left to sync.
        self._checkpointer = Checkpointer(path, self._lock_fd) if self.durability == "normal" else None
        if self._checkpointer is not None:
            self._checkpointer.start()

    def next_ids(self) -> tuple[int, int]:
        """The next free tick id and gap id. Raises DatabaseLocked or StorageError."""
        with translate_errors(self._path):
            (tick,) = self._con.execute("SELECT coalesce(max(id), 0) + 1 FROM ticks").fetchone()
            (gap,) = self._con.execute("SELECT coalesce(max(id), 0) + 1 FROM gaps").fetchone()
            return tick, gap

    def begin_run(self, info: RunInfo, started_ms: int) -> int:
        """Insert the run's row and return its id.

        The time since the last run is a gap: `pause`, or `crash` where the run was left open, which is then closed.
        """
        with translate_errors(self._path), transaction(self._con):
            self._con.execute(_ADD_PAUSE, (started_ms,))
            query = "SELECT id, updated_ms FROM runs WHERE ended_ms IS NULL"  # those that a crash left open
            for run_id, updated_ms in self._con.execute(query).fetchall():
                self._con.execute("UPDATE runs SET ended_ms = ?1 WHERE id = ?2", (updated_ms, run_id))
                self._con.execute(_END_GAPS, (updated_ms, run_id))
                self._con.execute(
                    "INSERT INTO gaps (run_id, kind, source, symbol, from_ms, to_ms) VALUES (?, 'crash', '', '', ?, ?)",
                    (run_id, updated_ms, max(updated_ms, started_ms)),
                )
            last = self._con.execute("SELECT state FROM runs ORDER BY id DESC LIMIT 1").fetchone()
            self.last_state = last[0] if last else None
            cursor = self._con.execute(
                "INSERT INTO runs (started_ms, updated_ms, version, release_digest, config_digest, mode, ingest_mode,"
                " sample_every, durability) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (started_ms, started_ms, *info, self.durability),
            )
            assert cursor.lastrowid is not None
            self.run_id = cursor.lastrowid
            self.first_ids = self.next_ids()  # read here, where the caller retries after a lock
        return self.run_id

    def write(
        self, batch: Batch, admission: AdmissionCounters, stages: StageCounters, feed: FeedState, gaps: Iterable[Gap]
    ) -> None:
        """Commit the rows, the counters as of these rows, and the changed gaps; or raise, with nothing written."""
        run = self.run_id
        try:
            with translate_errors(self._path), transaction(self._con):
                self._check()
                self._insert(batch)
                self._con.executemany(
                    "INSERT INTO gaps (id, run_id, kind, source, symbol, from_ms, to_ms, count)"
                    f" VALUES (?1, {run}, ?2, ?3, ?4, ?5, ?6, ?7)"
                    " ON CONFLICT (id) DO UPDATE SET to_ms = excluded.to_ms, count = excluded.count",
                    gaps,
                )
                self._con.execute(
                    "UPDATE runs SET updated_ms = ?, last_frame_ms = ?, received = ?, sampled_out = ?, rejected = ?,"
                    " duplicate = ?, dropped = ?, waiting = ?, admitted = ?, risk_vetoes = ?,"
                    " ticks_stored = ticks_stored + ?, signals_stored = signals_stored + ?,"
                    " orders_stored = orders_stored + ?, trades_stored = trades_stored + ?, state = ? WHERE id = ?",
                    (
                        *(now_ms(), feed.last_frame_ms),
                        *(admission.received, admission.sampled_out, admission.rejected, admission.duplicate),
                        *(admission.dropped, admission.waiting, admission.admitted, stages.risk_vetoes),
                        *(len(batch.ticks), len(batch.signals), len(batch.orders), len(batch.trades)),
                        *(feed.state.as_json(), run),
                    ),
                )
        except StorageError as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):  # a row that breaks a constraint is a bug
                raise error.__cause__ from None
            raise
        self._count_pages(len(batch))

    def _count_pages(self, rows: int) -> None:
        """Tell the checkpointer that a commit of so many rows is in the write-ahead log."""
        if self._checkpointer is not None:
            self._checkpointer.add_pages(_PAGES_PER_COMMIT + rows // _ROWS_PER_PAGE)

    def _check(self) -> None:
        """Raises StorageError where nobody would read a commit, or where the log would grow for ever."""
        if os.stat(self._path).st_ino != os.fstat(self._lock_fd).st_ino:
            raise StorageError(f"{self._path}: is another file now than the one that was opened")
        if self._checkpointer is not None and self._checkpointer.failure is not None:
            raise StorageError(f"{self._path}: cannot move the log into it: {self._checkpointer.failure}")

    def _insert(self, batch: Batch) -> None:
        # Columns are named, because a newer release may have added some. What a tick causes has the tick's id.
        ticks = "ticks (run_id, id, source, symbol, price, size, exchange_id, exchange_ms, received_ms, filled)"
        self._insert_rows(ticks, f"({self.run_id}, {{}}, {{}}, {{}}, {{}}, {{}}, {{}}, {{}}, {{}}, {{}})", batch.ticks)
        signals = "signals (id, tick_id, symbol, side, reason, confidence, size, created_ms)"
        self._insert_rows(signals, "({0}, {0}, {1}, {2}, {3}, {4}, {5}, {6})", batch.signals)
        orders = "orders (id, signal_id, symbol, side, size, price, status, reason, mode, created_ms)"
        self._insert_rows(orders, "({0}, {0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8})", batch.orders)
        trades = "trades (id, order_id, symbol, side, size, price, fee, created_ms)"
        self._insert_rows(trades, "({0}, {0}, {1}, {2}, {3}, {4}, {5}, {6})", batch.trades)

    def _insert_rows(self, into: str, row: str, rows: Sequence[tuple[object, ...]]) -> None:
        # Many rows with one statement: `executemany` releases the interpreter's lock at each row and then waits for it,
        # while every other stage wants it too.
        start = 0
        while start < len(rows):
            size = next(size for size in _ROWS_PER_STATEMENT if size <= len(rows) - start)
            values = list(chain.from_iterable(rows[start : start + size]))
            self._con.execute(_insert_statement(into, row, len(values) // size, size), values)
            start += size

    def delete_expired(self, days: float) -> Slice:
        """Delete a slice of what is older than `days`, in a transaction. Raises DatabaseLocked or StorageError."""
        with translate_errors(self._path):
            self._check()
            deleted = delete_slice(self._con, self.run_id, days, now_ms())
        if deleted.rows:
            self._count_pages(deleted.rows)
        return deleted

    def end_run(self, exit_code: int, ended_ms: int) -> None:
        """Close the run and every gap that its last commit left open. Raises DatabaseLocked or StorageError."""
        with translate_errors(self._path), transaction(self._con):
            self._check()
            self._con.execute(_END_GAPS, (ended_ms, self.run_id))
            values = (ended_ms, exit_code, self.run_id)
            self._con.execute("UPDATE runs SET ended_ms = ?, exit_code = ? WHERE id = ?", values)

    def has_ticks_between(self, first_id: int, last_id: int) -> bool:
        """Whether any tick has an id in this range (both inclusive). Raises DatabaseLocked or StorageError."""
        with translate_errors(self._path):
            query = "SELECT 1 FROM ticks WHERE id BETWEEN ? AND ? LIMIT 1"
            return self._con.execute(query, (first_id, last_id)).fetchone() is not None

    def close(self) -> None:
        """Close the connection. The last connection to close moves the write-ahead log into the database."""
        if self._checkpointer is not None:
            self._checkpointer.close()
        with translate_errors(self._path):
            self._con.close()
        if self._checkpointer is None or not self._checkpointer.holds_log_open:
            os.close(self._lock_fd)


def read_ticks(con: sqlite3.Connection, run_id: int, chunk: int) -> Iterator[Sequence[Tick]]:
    """The ticks of a run in order, `chunk` at a time."""
    stored = {row[1] for row in con.execute("PRAGMA table_info(ticks)")}  # of an earlier release, some are missing
    columns = ", ".join(name if name in stored else f"0 AS {name}" for name in Tick._fields)
    cursor = con.execute(f"SELECT {columns} FROM ticks WHERE run_id = ? ORDER BY id", (run_id,))
    while rows := cursor.fetchmany(chunk):
        yield [Tick(*row) for row in rows]
