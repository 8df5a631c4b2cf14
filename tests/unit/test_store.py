"""The database: made, verified, refused untouched, shared with readers, never with a second writer."""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine.database import Locked, open_reader
from hybrid_engine.exits import Exit, StorageError
from hybrid_engine.metrics import Books, Counters, FeedState, Gap
from hybrid_engine.model import Order, Signal, Tick, Trade
from hybrid_engine.schema import APPLICATION_ID, MIGRATIONS, refuse_foreign
from hybrid_engine.store import Batch, Store, ticks_of_run
from tests.support.books import rows
from tests.support.rows import chains
from tests.support.street import INFO


@pytest.fixture
def db(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder / "hybrid.db"


def picture(folder: Path) -> dict[str, bytes]:
    """Every file there is, with its bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def batch(first: int, count: int = 1) -> Batch:
    """`count` whole chains."""
    return chains(first, count, received_ms=11, exchange_ms=10)


def write(store: Store, made: Batch, *gaps: Gap) -> None:
    books = Books(received=len(made.ticks), admitted=len(made.ticks))
    store.write(made, books, Counters(), FeedState(last_frame_ms=5), gaps)


@pytest.fixture
def made(db: Path) -> Path:
    """A database with a run that ended well."""
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1, 50))
    store.end_run(0, 2000)
    store.close()
    return db


@pytest.mark.holds("S1", "G3")
def test_what_it_makes_is_what_it_promises(db: Path) -> None:
    store = Store(db)
    assert store.pragmas == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 5000, "temp_store": 2}
    store.close()
    with closing(sqlite3.connect(db)) as con:
        assert con.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert con.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        strict = {name: strict for _, name, _, _, _, strict in con.execute("PRAGMA table_list") if name[:6] != "sqlite"}
    assert strict == dict.fromkeys(("runs", "ticks", "signals", "orders", "trades", "gaps"), 1)
    assert db.stat().st_mode & 0o137 == 0  # others may not read it
    assert sorted(path.name for path in db.parent.iterdir()) == ["hybrid.db"]  # the log is folded in


def test_power_durability_asks_for_full_sync(db: Path) -> None:
    store = Store(db, "power")
    assert store.pragmas["synchronous"] == 2
    store.close()


def test_rows_go_in_whole_and_the_counters_with_them(db: Path) -> None:
    store = Store(db)
    assert store.begin_run(INFO, 1000) == 1
    write(store, batch(1, 3), Gap(1, "dropped", "s", "X", 5, None, 4))
    write(store, Batch.empty(), Gap(1, "dropped", "s", "X", 5, 9, 6), Gap(2, "down", "s", "X", 9, None, None))
    found = rows(db, "SELECT received, admitted, ticks_stored, signals_stored, trades_stored, last_frame_ms FROM runs")
    assert found == [(0, 0, 3, 3, 3, 5)]
    assert rows(db, "SELECT id, run_id, kind, from_ms, to_ms, count FROM gaps ORDER BY id") == [
        (1, 1, "dropped", 5, 9, 6),
        (2, 1, "down", 9, None, None),
    ]
    assert store.next_ids() == (4, 3)
    # A row that breaks a promise takes the whole transaction with it, and is a bug, not a broken disk.
    spoiled = batch(4, 2)
    spoiled.trades.append(spoiled.trades[0])
    with pytest.raises(sqlite3.IntegrityError):
        write(store, spoiled)
    orphan = Batch.empty()
    orphan.trades.append(batch(9).trades[0])
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        write(store, orphan)
    assert rows(db, "SELECT max(id) FROM ticks") == [(3,)]
    write(store, batch(4, 2))
    store.close()


@pytest.mark.parametrize("count", [0, 1, 9, 10, 99, 100, 101, 345])
def test_rows_are_stored_as_they_were_made_however_many_come_at_once(db: Path, count: int) -> None:
    """One statement takes many rows; every value arrives in its own column, each float to its last bit."""
    store = Store(db)
    store.begin_run(INFO, 1000)
    made = Batch.empty()
    for number in range(1, count + 1):
        price, size = 2500 / number, number / 7
        tick = Tick(number, f"source {number}", f"S{number}", price, size, None if number % 3 else number, 5, 6)
        made.ticks.append(tick)
        made.signals.append(Signal.of(tick, "BUY", size, f"reason {number}", 1 / number))
        made.orders.append(Order(number, tick.symbol, "SELL", size, price, "FILLED", f"why {number}", "PAPER", 7))
        made.trades.append(Trade(number, tick.symbol, "SELL", size, price, price / 3, 8))
    write(store, made)
    assert rows(db, "SELECT id, source, symbol, price, size, exchange_id, exchange_ms, received_ms FROM ticks") == [
        tuple(tick) for tick in made.ticks
    ]
    for table, cause, rest in (("signals", "tick_id", made.signals), ("orders", "signal_id", made.orders),
                               ("trades", "order_id", made.trades)):  # fmt: skip
        names = ", ".join(["id", cause, *type(rest[0])._fields[1:]] if rest else ["id"])
        assert rows(db, f"SELECT {names} FROM {table}") == [(row[0], *row) for row in rest]
    store.close()


def test_a_run_that_crashed_is_closed_by_the_next_with_a_gap(db: Path) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1), Gap(1, "down", "s", "X", 5, None, None))
    (updated,) = rows(db, "SELECT updated_ms FROM runs")[0]
    store.close()  # without end_run: as a SIGKILL leaves it
    store = Store(db)
    assert store.begin_run(INFO, updated + 60_000) == 2
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
    assert len(rows(db, "SELECT 1 FROM gaps WHERE kind = 'crash'")) == 1  # a clean end is none


def test_a_run_that_ends_leaves_no_gap_open(db: Path) -> None:
    """Its writer gave up: what it would have closed last, the end of the run closes."""
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1), Gap(1, "down", "s", "X", 5, None, None), Gap(2, "dropped", "s", "X", 9000, None, 4))
    store.end_run(14, 2000)
    store.close()
    assert rows(db, "SELECT id, from_ms, to_ms, count FROM gaps ORDER BY id") == [
        (1, 5, 2000, None),
        (2, 9000, 9000, 4),
    ]


def test_a_second_writer_is_refused_in_time_and_readers_are_not(made: Path) -> None:
    first = Store(made)
    with pytest.raises(StorageError, match="another engine writes to this database"):
        Store(made)
    with closing(open_reader(made)) as con:
        assert con.execute("SELECT max(id) FROM ticks").fetchone() == (50,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            con.execute("DELETE FROM ticks")
    first.close()
    Store(made).close()


def test_a_lock_is_locked_and_never_a_storage_error(made: Path) -> None:
    store = Store(made)
    with closing(sqlite3.connect(made, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Locked):
            store.begin_run(INFO, 1)
        with pytest.raises(Locked):
            store.end_run(0, 1)
        other.execute("ROLLBACK")
    store.begin_run(INFO, 1)
    store.close()
    with closing(sqlite3.connect(made, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Locked):
            Store(made)


def newer(con: sqlite3.Connection) -> None:
    """As a release to come might leave it."""
    con.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 7}")
    con.execute("CREATE TABLE bars (id INTEGER PRIMARY KEY)")
    for table in ("runs", "ticks", "signals", "orders", "trades", "gaps"):
        con.execute(f"ALTER TABLE {table} ADD COLUMN new_one TEXT")


def test_a_newer_database_with_more_columns_is_written_by_this_release(made: Path) -> None:
    with closing(sqlite3.connect(made, isolation_level=None)) as con:
        newer(con)
    store = Store(made)
    store.begin_run(INFO, 1)
    write(store, batch(51), Gap(1, "dropped", "s", "X", 5, None, 4))
    store.end_run(0, 1)
    store.close()
    assert rows(made, "SELECT max(id) FROM trades") == [(51,)]
    assert rows(made, "PRAGMA user_version") == [(len(MIGRATIONS) + 7,)]


def sql(*statements: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as con:
            for statement in statements:
                con.execute(statement)

    return spoil


def overwrite(at: int, data: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data)

    return spoil


def cut(keep: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(path.stat().st_size * keep))


def replaced(content: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.write_bytes(content)

    return spoil


def versioned(path: Path) -> None:
    path.unlink()
    sql("PRAGMA user_version = 3")(path)


def foreign(path: Path) -> None:
    path.unlink()
    sql("CREATE TABLE runs (id INTEGER PRIMARY KEY, what TEXT)", "INSERT INTO runs (what) VALUES ('theirs')")(path)


def foreign_wal(path: Path) -> None:
    path.unlink()
    sql("PRAGMA journal_mode = WAL", "CREATE TABLE t (id INTEGER)")(path)


def foreign_view(path: Path) -> None:
    path.unlink()
    sql("CREATE VIEW v AS SELECT 1 AS one")(path)


def loosened(path: Path) -> None:
    columns = "id INTEGER PRIMARY KEY, order_id, symbol, side, size, price, fee, created_ms"
    sql("DROP TABLE trades", f"CREATE TABLE trades ({columns}, FOREIGN KEY (order_id) REFERENCES orders (id))")(path)


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "garbage": (replaced(b"no database" * 999), "not a database"),
    "two bytes": (replaced(b"xy"), "its 2 bytes are no database"),
    "one byte": (replaced(b"x"), "its 1 bytes are no database"),
    "a broken header": (overwrite(0, b"SQLite format 4\0"), "not a database"),
    "truncated": (cut(0.5), ""),
    "truncated inside a page": (cut(0.77), ""),
    "a page of noise": (overwrite(4096, b"\xa5" * 4096), ""),
    "a schema of noise": (overwrite(200, b"\xa5" * 3800), ""),
    "somebody else's": (foreign, "not a database of this engine"),
    "somebody else's in WAL mode": (foreign_wal, "not a database of this engine"),
    "a column gone": (sql("ALTER TABLE ticks DROP COLUMN exchange_id"), "ticks: exchange_id is missing"),
    "a table gone": (sql("DROP TABLE gaps"), "wrong schema: gaps: "),
    "a version without tables": (versioned, "not a database of this engine"),
    "a view alone": (foreign_view, "not a database of this engine"),
    "a table that is not strict": (loosened, "wrong schema: trades: STRICT is missing"),
}


@pytest.mark.holds("G3")
@pytest.mark.parametrize("how", SPOILED)
def test_what_is_damaged_or_not_ours_is_refused_and_left_as_it_was(made: Path, how: str) -> None:
    spoil, said = SPOILED[how]
    spoil(made)
    before = picture(made.parent)
    with pytest.raises(StorageError) as caught:
        Store(made)
    assert caught.value.code is Exit.STORAGE
    assert str(made) in str(caught.value)
    assert said in str(caught.value)
    assert picture(made.parent) == before
    with pytest.raises(StorageError):  # nothing is held: the next try says the same
        Store(made)


def test_a_lost_write_ahead_log_of_a_crash_is_taken_in_not_refused(db: Path) -> None:
    """Killed in the middle: the newest rows are in the log alone."""
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1, 5))
    copy = db.parent / "copy"
    copy.mkdir()
    for path in db.parent.glob("hybrid.db*"):
        if path.name != "hybrid.db-shm":
            (copy / path.name).write_bytes(path.read_bytes())
    store.close()
    again = Store(copy / "hybrid.db")
    assert again.next_ids()[0] == 6
    again.close()


def test_an_index_that_disagrees_is_corrupt(made: Path) -> None:
    """The kind of damage that opens well and only a check sees."""
    with closing(sqlite3.connect(made, isolation_level=None)) as con:
        con.execute("PRAGMA writable_schema = ON")
        (page,) = con.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'signals'").fetchone()
        (size,) = con.execute("PRAGMA page_size").fetchone()
    with made.open("r+b") as file:
        file.seek((page - 1) * size + 3)
        file.write(struct.pack(">H", 9999))  # that many cells do not fit into a page
    with pytest.raises(StorageError, match=r"corrupt|malformed"):
        Store(made)


@pytest.mark.holds("GROWTH")
def test_the_check_at_a_start_takes_its_time_and_no_more(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(made)) as con:
        con.execute(
            "WITH RECURSIVE n (id) AS (SELECT 51 UNION ALL SELECT id + 1 FROM n WHERE id < 200000)"
            " INSERT INTO ticks SELECT id, 1, 's', 'X', 1.0, 1.0, id, 1, 1 FROM n"
        )
        con.commit()

    def quickest(limit_s: float) -> float:
        monkeypatch.setattr("hybrid_engine.schema.CHECK_S", limit_s)
        found = []
        for _ in range(5):
            with closing(open_reader(made)) as con:
                began = time.perf_counter()
                refuse_foreign(con, str(made))
                found.append(time.perf_counter() - began)
        return min(found)

    assert quickest(0.001) < 0.5 * quickest(60.0)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    return {
        "no such directory": tmp_path / "none" / "hybrid.db",
        "a directory": tmp_path,
        "a name too long": tmp_path / ("x" * 300),
        "below a file": tmp_path / "file" / "hybrid.db",
    }


@pytest.mark.parametrize("where", ["no such directory", "a directory", "a name too long", "below a file"])
def test_a_place_where_nothing_can_be(tmp_path: Path, places: dict[str, Path], where: str) -> None:
    (tmp_path / "file").touch()
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(StorageError, match="/"):
        Store(places[where])
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_ticks_of_a_run_come_in_order_by_the_chunk(made: Path) -> None:
    store = Store(made)
    store.begin_run(INFO, 1)
    write(store, batch(51, 3))
    store.close()
    with closing(open_reader(made)) as con:
        chunks = list(ticks_of_run(con, 1, 20))
    assert [len(chunk) for chunk in chunks] == [20, 20, 10]
    assert [tick.id for chunk in chunks for tick in chunk] == list(range(1, 51))
    assert chunks[0][0] == Tick(1, "s", "X", 1.5, 2.0, 1, 10, 11)


def test_whether_ids_are_taken(made: Path) -> None:
    store = Store(made)
    assert store.holds_any_of(50, 60)
    assert store.holds_any_of(0, 1)
    assert not store.holds_any_of(51, 60)
    store.close()


def test_an_old_run_crashed_long_ago_has_no_negative_gap(db: Path) -> None:
    store = Store(db)
    store.begin_run(INFO, 1000)
    write(store, batch(1))
    store.close()
    store = Store(db)
    store.begin_run(INFO, 5)  # the clock was set back in between
    store.close()
    assert rows(db, "SELECT to_ms - from_ms FROM gaps") == [(0,)]
