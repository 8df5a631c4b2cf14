"""What is older than `retention_days` goes: whole chains, oldest first, a small slice at a time.

Nothing is searched for and nothing is counted: ids are given in the order of receipt, so the oldest ticks are the
first of the table. Before the first young one everything goes; what stands behind it waits, however old it says it is.
"""

import sqlite3
from collections import Counter
from itertools import takewhile
from typing import NamedTuple

from hybrid_engine.storage.database import transaction

SLICE = 1000  # rows of one table: a tick and all it caused are about a microsecond's work
DAY_MS = 86_400_000

# A tick's id is that of all it caused. Children first: each step is looked up by an index, and leaves no orphan.
_CHAIN = ("trades", "orders", "signals", "ticks")


class Slice(NamedTuple):
    """`rows` went; `more`: there may be more that are old."""

    rows: int
    more: bool


NOTHING = Slice(0, False)


def expire(con: sqlite3.Connection, run_id: int, days: float, now_ms: int) -> Slice:
    """Delete the next slice: of ticks with all they caused, behind the last of those of gaps, then of runs.

    `run_id` is the run of this process, which stays, as do the newest tick and the newest gap: the next id is counted
    from them.
    """
    newest = con.execute("SELECT id, exchange_ms FROM ticks ORDER BY id DESC LIMIT 1").fetchone()
    if newest is None:
        return NOTHING
    # The exchange's clock has a say: a host's own that leaps ahead must not make everything old at once.
    last_tick, exchange_ms = newest
    cutoff_ms = min(now_ms, exchange_ms) - round(days * DAY_MS)
    with transaction(con):
        ticks = _ticks(con, last_tick, cutoff_ms)
        gaps = NOTHING if ticks.more else _gaps(con, cutoff_ms)
    runs = NOTHING if ticks.more or gaps.more else _runs(con, run_id, cutoff_ms)
    return Slice(ticks.rows + gaps.rows + runs.rows, ticks.more or gaps.more or runs.more)


def _ticks(con: sqlite3.Connection, last_tick: int, cutoff_ms: int) -> Slice:
    rows = con.execute(
        "SELECT id, run_id, received_ms FROM ticks WHERE id < ? ORDER BY id LIMIT ?", (last_tick, SLICE)
    ).fetchall()
    old = list(takewhile(lambda row: row[2] < cutoff_ms, rows))
    if not old:
        return NOTHING
    con.executemany(
        "UPDATE runs SET ticks_expired = ticks_expired + ? WHERE id = ?",
        [(count, run) for run, count in Counter(row[1] for row in old).items()],
    )
    ends = old[0][0], old[-1][0]
    deleted = [con.execute(f"DELETE FROM {name} WHERE id BETWEEN ? AND ?", ends).rowcount for name in _CHAIN]
    return Slice(sum(deleted), len(old) == SLICE)


def _gaps(con: sqlite3.Connection, cutoff_ms: int) -> Slice:
    rows = con.execute(
        "SELECT id, to_ms FROM gaps WHERE id < (SELECT max(id) FROM gaps) ORDER BY id LIMIT ?", (SLICE,)
    ).fetchall()
    old = list(takewhile(lambda row: row[1] is not None and row[1] < cutoff_ms, rows))
    if not old:
        return NOTHING
    return Slice(con.execute("DELETE FROM gaps WHERE id <= ?", old[-1][:1]).rowcount, len(old) == SLICE)


def _runs(con: sqlite3.Connection, run_id: int, cutoff_ms: int) -> Slice:
    """Runs that ended long ago, with no tick and no gap left.

    Gaps stand in the order of their runs; ticks are known by the run's own counters, written with them.
    """
    kept = con.execute("SELECT run_id FROM gaps ORDER BY id LIMIT 1").fetchone()
    before = min(run_id, kept[0]) if kept else run_id
    rows = con.execute(
        "SELECT id, ended_ms, ticks_stored - ticks_expired FROM runs WHERE id < ? ORDER BY id LIMIT ?", (before, SLICE)
    ).fetchall()
    old = list(takewhile(lambda row: row[1] is not None and row[1] < cutoff_ms and not row[2], rows))
    if not old:
        return NOTHING
    # Left on, SQLite would read all of ticks to see that none is of this run: an index that nothing else needs.
    con.execute("PRAGMA foreign_keys = OFF")
    try:
        with transaction(con):
            return Slice(con.execute("DELETE FROM runs WHERE id <= ?", old[-1][:1]).rowcount, len(old) == SLICE)
    finally:
        con.execute("PRAGMA foreign_keys = ON")
