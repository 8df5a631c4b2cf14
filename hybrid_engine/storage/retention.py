"""Retention: deletes what is older than `retention_days`, whole chains, oldest first, a small slice at a time.

Nothing is searched or counted: ids are given in the order of receipt, so the oldest ticks are the first of the table.
Ticks are deleted up to the first one that is young enough; those behind it wait, whatever their own time is.
"""

import sqlite3
from collections import Counter
from itertools import takewhile
from typing import NamedTuple

from hybrid_engine.storage.database import transaction

SLICE = 1000  # rows of one table: deleting a tick and what it caused takes about a microsecond
DAY_MS = 86_400_000

# The tables of a chain, whose rows all have the tick's id. Children first: no delete leaves a row without its parent.
_CHAIN = ("trades", "orders", "signals", "ticks")


class Slice(NamedTuple):
    """The result of a deletion: `rows` were deleted; `more`: there may be more that are too old."""

    rows: int
    more: bool


NOTHING = Slice(0, False)


def delete_slice(con: sqlite3.Connection, run_id: int, days: float, now_ms: int) -> Slice:
    """Delete the next slice: ticks with all they caused; after the last of those, gaps; then runs.

    The run of this process (`run_id`), the newest tick and the newest gap are kept: the next ids follow from them.
    """
    newest = con.execute("SELECT id, exchange_ms FROM ticks ORDER BY id DESC LIMIT 1").fetchone()
    if newest is None:
        return NOTHING
    # Not later than the exchange's clock: when the host's own clock leaps ahead, not everything is old at once.
    last_tick, exchange_ms = newest
    cutoff_ms = min(now_ms, exchange_ms) - round(days * DAY_MS)
    with transaction(con):
        ticks = _delete_ticks(con, last_tick, cutoff_ms)
        gaps = NOTHING if ticks.more else _delete_gaps(con, cutoff_ms)
    runs = NOTHING if ticks.more or gaps.more else _delete_runs(con, run_id, cutoff_ms)
    return Slice(ticks.rows + gaps.rows + runs.rows, ticks.more or gaps.more or runs.more)


def _delete_ticks(con: sqlite3.Connection, last_tick: int, cutoff_ms: int) -> Slice:
    query = "SELECT id, run_id, received_ms FROM ticks WHERE id < ? ORDER BY id LIMIT ?"
    old = list(takewhile(lambda row: row[2] < cutoff_ms, con.execute(query, (last_tick, SLICE)).fetchall()))
    if not old:
        return NOTHING
    counts = [(count, run) for run, count in Counter(row[1] for row in old).items()]
    con.executemany("UPDATE runs SET ticks_expired = ticks_expired + ? WHERE id = ?", counts)
    ends = old[0][0], old[-1][0]
    deleted = [con.execute(f"DELETE FROM {name} WHERE id BETWEEN ? AND ?", ends).rowcount for name in _CHAIN]
    return Slice(sum(deleted), len(old) == SLICE)


def _delete_gaps(con: sqlite3.Connection, cutoff_ms: int) -> Slice:
    query = "SELECT id, to_ms FROM gaps WHERE id < (SELECT max(id) FROM gaps) ORDER BY id LIMIT ?"
    rows = con.execute(query, (SLICE,)).fetchall()
    # One that is still open stays, and those behind it go: it may be open for as long as a symbol is refused.
    over = takewhile(lambda row: row[1] is None or row[1] < cutoff_ms, rows)
    old = [row[:1] for row in over if row[1] is not None]
    if not old:
        return NOTHING
    con.executemany("DELETE FROM gaps WHERE id = ?", old)
    return Slice(len(old), len(rows) == SLICE)


def _delete_runs(con: sqlite3.Connection, run_id: int, cutoff_ms: int) -> Slice:
    """Delete runs that ended before the cutoff and have neither ticks nor gaps left."""
    # Gaps are in the order of their runs; a run's own counters, committed with its ticks, say whether it has some.
    first_gap = con.execute("SELECT run_id FROM gaps ORDER BY id LIMIT 1").fetchone()
    before = min(run_id, first_gap[0]) if first_gap else run_id
    query = "SELECT id, ended_ms, ticks_stored - ticks_expired FROM runs WHERE id < ? ORDER BY id LIMIT ?"
    rows = con.execute(query, (before, SLICE)).fetchall()
    old = list(takewhile(lambda row: row[1] is not None and row[1] < cutoff_ms and not row[2], rows))
    if not old:
        return NOTHING
    # With foreign keys on, SQLite would read the whole table ticks, which has no index on run_id, for rows of the run.
    con.execute("PRAGMA foreign_keys = OFF")
    try:
        with transaction(con):
            return Slice(con.execute("DELETE FROM runs WHERE id <= ?", old[-1][:1]).rowcount, len(old) == SLICE)
    finally:
        con.execute("PRAGMA foreign_keys = ON")
