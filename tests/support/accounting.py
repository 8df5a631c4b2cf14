"""Checks that every database of the engine must pass, at any moment, read from outside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

TERMS = ("sampled_out", "rejected", "duplicate", "dropped", "waiting", "admitted")
TABLES = ("ticks", "signals", "orders", "trades")
# A signal, order and trade have the id of their tick.
_COUNT = "SELECT count(*) FROM {0} AS t JOIN ticks AS k ON k.id = t.id WHERE k.run_id = ?"


def rows(db: Path, query: str, *args: object) -> list[tuple[Any, ...]]:
    """The result of `query`, on a connection that cannot write."""
    with closing(sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True, timeout=10)) as con:
        return con.execute(query, args).fetchall()


def run_row(con: sqlite3.Connection, run_id: int) -> dict[str, Any]:
    cursor = con.execute("SELECT * FROM runs WHERE id = ?", (run_id,))
    names = [column[0] for column in cursor.description]
    return dict(zip(names, cursor.fetchone(), strict=True))


def check_snapshot(con: sqlite3.Connection, run_id: int) -> dict[str, Any]:
    """In one read transaction: the accounting balances, the counters match the rows, and the gaps the counters."""
    con.execute("BEGIN")
    try:
        run = run_row(con, run_id)
        counted = {name: con.execute(_COUNT.format(name), (run_id,)).fetchone()[0] for name in TABLES}
        lost = dict(con.execute("SELECT kind, sum(count) FROM gaps WHERE run_id = ? GROUP BY kind", (run_id,)))
        open_rows = con.execute(
            "SELECT kind, source, symbol, count(*) FROM gaps WHERE run_id = ? AND to_ms IS NULL GROUP BY 1, 2, 3",
            (run_id,),
        ).fetchall()
        loose = check_chains(con)
    finally:
        con.execute("COMMIT")
    assert run["received"] == sum(run[term] for term in TERMS), run
    assert loose == []
    for name in TABLES:
        assert counted[name] == run[f"{name}_stored"], (name, counted, run)
    assert run["ticks_stored"] <= run["admitted"]
    for kind in ("sampled_out", "rejected", "duplicate"):
        assert lost.get(kind, 0) == run[kind], (kind, lost, run)
    assert lost.get("dropped", 0) + lost.get("stop", 0) == run["dropped"], (lost, run)
    assert all(count == 1 for *_, count in open_rows), open_rows
    return run


def check_chains(con: sqlite3.Connection) -> list[Any]:
    """Rows without their parent or child in tick -> signal -> order -> trade."""
    return con.execute(
        "SELECT s.id FROM signals s LEFT JOIN orders o ON o.signal_id = s.id WHERE o.id IS NULL"
        " UNION ALL SELECT o.id FROM orders o LEFT JOIN trades t ON t.order_id = o.id"
        " WHERE (o.status = 'FILLED') <> (t.id IS NOT NULL)"
        " UNION ALL SELECT s.id FROM signals s LEFT JOIN ticks k ON k.id = s.tick_id WHERE k.id IS NULL"
        " UNION ALL SELECT t.id FROM trades t LEFT JOIN orders o ON o.id = t.order_id WHERE o.id IS NULL"
    ).fetchall()


def check_finished(db: Path, run_id: int = 1) -> dict[str, Any]:
    """Check a run that ended with 0: nothing waits, everything admitted is stored, no gap is open."""
    with closing(sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True, isolation_level=None)) as con:
        run = check_snapshot(con, run_id)
        assert con.execute("SELECT count(*) FROM gaps WHERE to_ms IS NULL").fetchone() == (0,)
        assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert con.execute("PRAGMA foreign_key_check").fetchall() == []
        ticks = con.execute("SELECT count(*) FROM ticks WHERE run_id = ?", (run_id,)).fetchone()[0]
    assert (run["waiting"], run["exit_code"]) == (0, 0), run
    assert run["admitted"] == run["ticks_stored"] == ticks, run
    assert run["ended_ms"] is not None
    return run
