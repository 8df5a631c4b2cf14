"""The store: creating and verifying a database, writing, readers, and a second writer."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hybrid_engine.domain.accounting import Gap
from hybrid_engine.domain.events import Order, Signal, Tick, Trade
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.storage.database import DatabaseLocked, open_reader
from hybrid_engine.storage.schema import APPLICATION_ID, MIGRATIONS
from hybrid_engine.storage.store import Batch, Store, read_ticks
from tests.support.accounting import rows
from tests.support.pipeline import INFO
from tests.support.rows import IN_FORCE, batch, in_force, write


@pytest.mark.holds("S1", "G3")
def test_new_database_has_documented_schema_and_pragmas(db: Path) -> None:
    store = Store(db)
    assert store.pragmas == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 5000, "temp_store": 2}
    store.close()
    with closing(sqlite3.connect(db)) as con:
        assert con.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert con.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        strict = {name: strict for _, name, _, _, _, strict in con.execute("PRAGMA table_list") if name[:6] != "sqlite"}
    assert strict == dict.fromkeys(("runs", "ticks", "signals", "orders", "trades", "gaps"), 1)
    assert db.stat().st_mode & 0o137 == 0  # others may not read it
    assert sorted(path.name for path in db.parent.iterdir()) == ["hybrid.db"]  # the log was moved into the database


@pytest.mark.holds("S1")
def test_pragmas_stay_in_force_during_a_run(db: Path) -> None:
    store = Store(db)
    assert in_force(store) == IN_FORCE
    store.begin_run(INFO, 1000)
    write(store, batch(1, 5))
    assert in_force(store) == IN_FORCE
    store.close()


@pytest.mark.holds("G3")
@pytest.mark.parametrize("name", ["journal_mode", "synchronous", "busy_timeout", "temp_store", "foreign_keys"])
def test_pragma_that_does_not_hold_is_refused(db: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    class Deaf(sqlite3.Connection):
        """A connection to which one PRAGMA cannot be set."""

        def execute(self, query: str, *rest: Any) -> sqlite3.Cursor:
            return super().execute("SELECT 'another'" if query == f"PRAGMA {name}" else query, *rest)

    original = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: original(*given, **options, factory=Deaf))
    with pytest.raises(StorageError, match=f"PRAGMA {name} is 'another' where"):
        Store(db)


def test_power_durability_sets_full_sync(db: Path) -> None:
    store = Store(db, "power")
    assert store.pragmas["synchronous"] == 2
    store.close()


def test_rows_and_counters_in_one_transaction(db: Path) -> None:
    store = Store(db)
    assert store.begin_run(INFO, 1000) == 1
    write(store, batch(1, 3), Gap(1, "dropped", "s", "X", 5, None, 4))
    write(store, Batch(), Gap(1, "dropped", "s", "X", 5, 9, 6), Gap(2, "down", "s", "X", 9, None, None))
    result = rows(db, "SELECT received, admitted, ticks_stored, signals_stored, trades_stored, last_frame_ms FROM runs")
    assert result == [(0, 0, 3, 3, 3, 5)]
    assert rows(db, "SELECT id, run_id, kind, from_ms, to_ms, count FROM gaps ORDER BY id") == [
        (1, 1, "dropped", 5, 9, 6),
        (2, 1, "down", 9, None, None),
    ]
    assert store.next_ids() == (4, 3)
    # A row that violates a constraint rolls the transaction back, and is a bug, not a storage error.
    spoiled = batch(4, 2)
    spoiled.trades.append(spoiled.trades[0])
    with pytest.raises(sqlite3.IntegrityError):
        write(store, spoiled)
    orphan = Batch()
    orphan.trades.append(batch(9).trades[0])
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        write(store, orphan)
    assert rows(db, "SELECT max(id) FROM ticks") == [(3,)]
    write(store, batch(4, 2))
    store.close()


@pytest.mark.parametrize("count", [0, 1, 9, 10, 99, 100, 101, 345])
def test_any_number_of_rows_is_stored(db: Path, count: int) -> None:
    """One statement inserts many rows; every value is in its column, every float exact."""
    store = Store(db)
    store.begin_run(INFO, 1000)
    created = Batch()
    for number in range(1, count + 1):
        price, size = 2500 / number, number / 7
        tick = Tick(
            number, f"source {number}", f"S{number}", price, size, None if number % 3 else number, 5, 6, number % 2
        )
        created.ticks.append(tick)
        created.signals.append(Signal.of(tick, "BUY", size, f"reason {number}", 1 / number))
        created.orders.append(Order(number, tick.symbol, "SELL", size, price, "FILLED", f"why {number}", "PAPER", 7))
        created.trades.append(Trade(number, tick.symbol, "SELL", size, price, price / 3, 8))
    write(store, created)
    columns = "id, source, symbol, price, size, exchange_id, exchange_ms, received_ms, filled"
    assert rows(db, f"SELECT {columns} FROM ticks") == [tuple(tick) for tick in created.ticks]
    for table, cause, rest in (
        ("signals", "tick_id", created.signals),
        ("orders", "signal_id", created.orders),
        ("trades", "order_id", created.trades),
    ):
        names = ", ".join(["id", cause, *type(rest[0])._fields[1:]] if rest else ["id"])
        assert rows(db, f"SELECT {names} FROM {table}") == [(row[0], *row) for row in rest]
    store.close()


@pytest.mark.holds("REBOOT", "CHAINS")
def test_crashed_run_closed_with_gap(db: Path) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1, 3), Gap(1, "down", "s", "X", 5, None, None))
    (updated,) = rows(db, "SELECT updated_ms FROM runs")[0]
    store.close()  # without end_run, as after a SIGKILL
    kept = [f"SELECT * FROM {table} ORDER BY id" for table in ("ticks", "signals", "orders", "trades")]
    kept.append("SELECT received, admitted, ticks_stored, started_ms FROM runs WHERE id = 1")
    before = [rows(db, query) for query in kept]
    store = Store(db)
    assert store.begin_run(INFO, updated + 60_000) == 2
    assert [rows(db, query) for query in kept] == before
    store.end_run(0, updated + 61_000)
    store.close()
    assert rows(db, "SELECT id, ended_ms, exit_code FROM runs") == [(1, updated, None), (2, updated + 61_000, 0)]
    assert rows(db, "SELECT run_id, kind, from_ms, to_ms, count FROM gaps ORDER BY id") == [
        (1, "down", 5, updated, None),
        (1, "crash", updated, updated + 60_000, None),
    ]
    store = Store(db)
    store.begin_run(INFO, updated + 90_000)
    store.close()
    assert rows(db, "SELECT kind FROM gaps WHERE id > 2") == [("pause",)]  # a clean end is not a crash


@pytest.mark.holds("REBOOT")
def test_time_between_runs_is_a_gap(db: Path) -> None:
    """From the end of the newest run to the next start, once; none before the first run, none after a crash."""
    query = "SELECT run_id, kind, source, symbol, from_ms, to_ms, count FROM gaps ORDER BY id"
    store = Store(db)
    store.begin_run(INFO, 1000)
    assert rows(db, query) == []
    store.end_run(10, 2000)  # with whatever code: it ended by itself
    store.close()
    expected = []
    for run_id, (started, ended) in enumerate(
        [(5000, 6000), (5500, 7000)], 2
    ):  # the clock was set back before the last
        store = Store(db)
        assert store.begin_run(INFO, started) == run_id
        assert store.first_ids == (1, run_id)  # the gap's own id is not given again
        from_ms = 2000 if run_id == 2 else 6000
        expected.append((run_id - 1, "pause", "", "", from_ms, max(from_ms, started), None))
        assert rows(db, query) == expected
        store.end_run(0, ended)
        store.close()


def test_ended_run_has_no_open_gap(db: Path) -> None:
    """When persist gave up, the end of the run closes the gaps that it left open."""
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1), Gap(1, "down", "s", "X", 5, None, None), Gap(2, "dropped", "s", "X", 9000, None, 4))
    store.end_run(14, 2000)
    store.close()
    assert rows(db, "SELECT id, from_ms, to_ms, count FROM gaps ORDER BY id") == [
        (1, 5, 2000, None),
        (2, 9000, 9000, 4),
    ]


@pytest.mark.holds("G3")
def test_second_writer_is_refused(finished_db: Path) -> None:
    first = Store(finished_db)
    with pytest.raises(StorageError, match="another engine writes to this database"):
        Store(finished_db)
    with closing(open_reader(finished_db)) as con:
        assert con.execute("SELECT max(id) FROM ticks").fetchone() == (50,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            con.execute("DELETE FROM ticks")
    first.close()
    Store(finished_db).close()


@pytest.mark.holds("G5", "I6")
def test_lock_raises_database_locked(finished_db: Path) -> None:
    store = Store(finished_db)
    with closing(sqlite3.connect(finished_db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseLocked):
            store.begin_run(INFO, 1)
        with pytest.raises(DatabaseLocked):
            store.end_run(0, 1)
        other.execute("ROLLBACK")
    store.begin_run(INFO, 1)
    store.close()
    with closing(sqlite3.connect(finished_db, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseLocked):
            Store(finished_db)


def newer(con: sqlite3.Connection) -> None:
    """The database as a later release might leave it."""
    con.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 7}")
    con.execute("CREATE TABLE bars (id INTEGER PRIMARY KEY)")
    for table in ("runs", "ticks", "signals", "orders", "trades", "gaps"):
        con.execute(f"ALTER TABLE {table} ADD COLUMN new_one TEXT")


def test_newer_database_with_more_columns_is_writable(finished_db: Path) -> None:
    with closing(sqlite3.connect(finished_db, isolation_level=None)) as con:
        newer(con)
    store = Store(finished_db)
    store.begin_run(INFO, 1)
    write(store, batch(51), Gap(1, "dropped", "s", "X", 5, None, 4))
    store.end_run(0, 1)
    store.close()
    assert rows(finished_db, "SELECT max(id) FROM trades") == [(51,)]
    assert rows(finished_db, "PRAGMA user_version") == [(len(MIGRATIONS) + 7,)]


def test_read_ticks_in_order_by_chunk(finished_db: Path) -> None:
    store = Store(finished_db)
    store.begin_run(INFO, 1)
    write(store, batch(51, 3))
    store.close()
    with closing(open_reader(finished_db)) as con:
        chunks = list(read_ticks(con, 1, 20))
    assert [len(chunk) for chunk in chunks] == [20, 20, 10]
    assert [tick.id for chunk in chunks for tick in chunk] == list(range(1, 51))
    assert chunks[0][0] == Tick(1, "s", "X", 1.5, 2.0, 1, 10, 11)


def test_has_ticks_between(finished_db: Path) -> None:
    store = Store(finished_db)
    assert store.has_ticks_between(50, 60)
    assert store.has_ticks_between(0, 1)
    assert not store.has_ticks_between(51, 60)
    store.close()


def test_crash_gap_is_never_negative(db: Path) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1))
    store.close()
    store = Store(db)
    store.begin_run(INFO, 5)  # the clock was set back in between
    store.close()
    assert rows(db, "SELECT to_ms - from_ms FROM gaps") == [(0,)]
