"""What is written: whole chains, the run's row, the gaps. One writer, many readers.

Raises `Locked` when somebody else holds the database, and `StorageError` for everything else.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from hybrid_engine.domain.counters import AdmissionCounters, FeedState, StageCounters
from hybrid_engine.domain.events import Order, Signal, Tick, Trade
from hybrid_engine.domain.gaps import Gap
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.storage.checkpointer import Checkpointer
from hybrid_engine.storage.database import SYNCHRONOUS, claim, open_writer, transaction, translated
from hybrid_engine.storage.retention import Slice, expire

# Rows that one statement inserts: any number of rows is few statements, and each of these is prepared once.
_AT_ONCE = (128, 64, 32, 16, 8, 4, 2, 1)
# Pages that a commit adds to the write-ahead log: where each table and index ends, and what the rows fill.
_ENDS, _ROWS_A_PAGE = 10, 60


@cache
def _insert_statement(into: str, row: str, width: int, count: int) -> str:
    """`row` names the `width` values of a row as {0}, {1} ..."""
    places = [[f"?{first + k}" for k in range(width)] for first in range(1, count * width + 1, width)]
    return f"INSERT INTO {into} VALUES " + ", ".join(row.format(*names) for names in places)


class RunInfo(NamedTuple):
    """What a run says of itself when it starts."""

    version: str
    release_digest: str
    config_digest: str
    mode: str
    ingest_mode: str
    sample_every: int


@dataclass(slots=True)
class Batch:
    """Rows of one transaction: whole chains, in the street's order."""

    ticks: list[Tick]
    signals: list[Signal]
    orders: list[Order]
    trades: list[Trade]

    @classmethod
    def empty(cls) -> "Batch":
        return cls([], [], [], [])

    def __len__(self) -> int:
        return len(self.ticks) + len(self.signals) + len(self.orders) + len(self.trades)


class Store:
    """The writer's connection: opened once, used by one thread at a time."""

    def __init__(self, path: Path, durability: str = "normal") -> None:
        """Open, check and, where it is new, make the database. Raises StorageError or Locked, with nothing changed."""
        self._path = str(path)
        self.run_id = 0
        self.first_ids = (1, 1)
        self._lock_fd = claim(path)
        try:
            self._con, self.pragmas = open_writer(path, durability)
            # what is in force, not what was asked for
            self.durability = next(name for name, sync in SYNCHRONOUS.items() if sync == self.pragmas["synchronous"])
        except BaseException:
            os.close(self._lock_fd)
            raise
        # With "power" each commit waits for the disk: nothing is left for anybody else to sync.
        self._checkpointer = Checkpointer(path, self._lock_fd) if self.durability == "normal" else None
        if self._checkpointer is not None:
            self._checkpointer.start()

    def next_ids(self) -> tuple[int, int]:
        """The next free tick id and gap id. Raises Locked or StorageError."""
        with translated(self._path):
            (tick,) = self._con.execute("SELECT coalesce(max(id), 0) + 1 FROM ticks").fetchone()
            (gap,) = self._con.execute("SELECT coalesce(max(id), 0) + 1 FROM gaps").fetchone()
            return tick, gap

    def begin_run(self, info: RunInfo, started_ms: int) -> int:
        """A row in `runs`, and its id. Runs that a crash left open are closed, with a gap `crash` up to now."""
        with translated(self._path), transaction(self._con):
            crashed = self._con.execute("SELECT id, updated_ms FROM runs WHERE ended_ms IS NULL").fetchall()
            for run_id, updated_ms in crashed:
                self._con.execute("UPDATE runs SET ended_ms = ?1 WHERE id = ?2", (updated_ms, run_id))
                self._con.execute(
                    "UPDATE gaps SET to_ms = max(from_ms, ?1) WHERE run_id = ?2 AND to_ms IS NULL", (updated_ms, run_id)
                )
                self._con.execute(
                    "INSERT INTO gaps (run_id, kind, source, symbol, from_ms, to_ms) VALUES (?, 'crash', '', '', ?, ?)",
                    (run_id, updated_ms, max(updated_ms, started_ms)),
                )
            cursor = self._con.execute(
                "INSERT INTO runs (started_ms, updated_ms, version, release_digest, config_digest, mode, ingest_mode,"
                " sample_every, durability) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (started_ms, started_ms, *info, self.durability),
            )
            assert cursor.lastrowid is not None
            self.run_id = cursor.lastrowid
            self.first_ids = self.next_ids()  # asked here, where a lock is waited for
        return self.run_id

    def write(
        self, batch: Batch, books: AdmissionCounters, counters: StageCounters, feed: FeedState, gaps: Iterable[Gap]
    ) -> None:
        """One transaction: the rows, the run's counters as they are with these rows, and the gaps that changed.

        Raises Locked or StorageError; nothing was written then. A row that breaks a constraint is a bug, and stays a
        sqlite3.IntegrityError.
        """
        run = self.run_id
        try:
            with translated(self._path), transaction(self._con):
                self._refuse_moved()
                self._refuse_unmoved()
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
                    " orders_stored = orders_stored + ?, trades_stored = trades_stored + ? WHERE id = ?",
                    (
                        *(now_ms(), feed.last_frame_ms, books.received, books.sampled_out, books.rejected),
                        *(books.duplicate, books.dropped, books.waiting, books.admitted, counters.risk_vetoes),
                        *(len(batch.ticks), len(batch.signals), len(batch.orders), len(batch.trades), run),
                    ),
                )
        except StorageError as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):
                raise error.__cause__ from None
            raise
        self._wrote(len(batch))

    def _wrote(self, rows: int) -> None:
        """A commit of so many rows is in the log."""
        if self._checkpointer is not None:
            self._checkpointer.wrote(_ENDS + rows // _ROWS_A_PAGE)

    def _refuse_moved(self) -> None:
        """A file that was deleted or replaced can still be written, and nobody would ever read it."""
        if os.stat(self._path).st_ino != os.fstat(self._lock_fd).st_ino:
            raise StorageError(f"{self._path}: is another file now than the one that was opened")

    def _refuse_unmoved(self) -> None:
        """What nobody moves into the database would make the log longer and longer. The next start moves all of it."""
        if self._checkpointer is not None and self._checkpointer.failure is not None:
            raise StorageError(f"{self._path}: cannot move the log into it: {self._checkpointer.failure}")

    def _insert(self, batch: Batch) -> None:
        # Columns are named everywhere: a newer release may have added some. What a tick causes carries its number.
        ticks = "ticks (run_id, id, source, symbol, price, size, exchange_id, exchange_ms, received_ms)"
        self._many(ticks, f"({self.run_id}, {{}}, {{}}, {{}}, {{}}, {{}}, {{}}, {{}}, {{}})", batch.ticks)
        signals = "signals (id, tick_id, symbol, side, reason, confidence, size, created_ms)"
        self._many(signals, "({0}, {0}, {1}, {2}, {3}, {4}, {5}, {6})", batch.signals)
        orders = "orders (id, signal_id, symbol, side, size, price, status, reason, mode, created_ms)"
        self._many(orders, "({0}, {0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8})", batch.orders)
        trades = "trades (id, order_id, symbol, side, size, price, fee, created_ms)"
        self._many(trades, "({0}, {0}, {1}, {2}, {3}, {4}, {5}, {6})", batch.trades)

    def _many(self, into: str, row: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows, many by one statement.

        `executemany` lets go of the interpreter's lock at each row and then waits for it, while every other stage
        wants it as well.
        """
        start = 0
        while start < len(rows):
            size = next(size for size in _AT_ONCE if size <= len(rows) - start)
            values = list(chain.from_iterable(rows[start : start + size]))
            self._con.execute(_insert_statement(into, row, len(values) // size, size), values)
            start += size

    def expire(self, days: float) -> Slice:
        """Delete a slice of what is older than so many days, in its own transaction. Raises Locked or StorageError."""
        with translated(self._path):
            self._refuse_moved()
            self._refuse_unmoved()
            gone = expire(self._con, self.run_id, days, now_ms())
        if gone.rows:
            self._wrote(gone.rows)
        return gone

    def end_run(self, exit_code: int, ended_ms: int) -> None:
        """The run is over, and so is every gap that its last commit left open. Raises Locked or StorageError."""
        with translated(self._path), transaction(self._con):
            self._refuse_unmoved()
            self._con.execute(
                "UPDATE gaps SET to_ms = max(from_ms, ?1) WHERE run_id = ?2 AND to_ms IS NULL", (ended_ms, self.run_id)
            )
            self._con.execute(
                "UPDATE runs SET ended_ms = ?, exit_code = ? WHERE id = ?", (ended_ms, exit_code, self.run_id)
            )

    def holds_any_of(self, first_id: int, last_id: int) -> bool:
        """Whether any tick has an id in this range (both inclusive)."""
        with translated(self._path):
            query = "SELECT EXISTS (SELECT 1 FROM ticks WHERE id BETWEEN ? AND ?)"
            return bool(self._con.execute(query, (first_id, last_id)).fetchone()[0])

    def close(self) -> None:
        """Close the connection; the last one to close folds the write-ahead log into the database."""
        if self._checkpointer is not None:
            self._checkpointer.close()
        with translated(self._path):
            self._con.close()
        if self._checkpointer is None or not self._checkpointer.keeps_the_log:
            os.close(self._lock_fd)


def ticks_of_run(con: sqlite3.Connection, run_id: int, chunk: int) -> Iterator[Sequence[Tick]]:
    """The ticks of a run in order, `chunk` at a time."""
    cursor = con.execute(
        "SELECT id, source, symbol, price, size, exchange_id, exchange_ms, received_ms FROM ticks"
        " WHERE run_id = ? ORDER BY id",
        (run_id,),
    )
    while rows := cursor.fetchmany(chunk):
        yield [Tick(*row) for row in rows]
