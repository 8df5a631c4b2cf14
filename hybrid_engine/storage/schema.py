"""The tables, their migrations, and the check that a database is the engine's own.

Migrations only add, so the previous release can open a newer database. SQLite keeps the comments inside the statements:
`.schema` shows an operator the units.
"""

import sqlite3
import threading
from contextlib import closing

from hybrid_engine.runtime.errors import StorageError

# Time for checking a database before READY. Checking all of a large file would take minutes.
CHECK_S = 0.02
APPLICATION_ID = 0x48594245  # "HYBE": a database with tables and without this id is not the engine's

_V1 = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER,            -- NULL while it runs; a crash is closed by the next start
    exit_code INTEGER,           -- NULL while it runs, and after a crash
    version TEXT NOT NULL, release_digest TEXT NOT NULL, config_digest TEXT NOT NULL,
    mode TEXT NOT NULL, ingest_mode TEXT NOT NULL, sample_every INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL, -- when the counters below were written
    last_frame_ms INTEGER,       -- newest frame of any source, trade or not
    received INTEGER NOT NULL DEFAULT 0, sampled_out INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0, duplicate INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0, waiting INTEGER NOT NULL DEFAULT 0, admitted INTEGER NOT NULL DEFAULT 0,
    ticks_stored INTEGER NOT NULL DEFAULT 0, signals_stored INTEGER NOT NULL DEFAULT 0,
    orders_stored INTEGER NOT NULL DEFAULT 0, trades_stored INTEGER NOT NULL DEFAULT 0,
    risk_vetoes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE ticks (
    id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id),
    source TEXT NOT NULL, symbol TEXT NOT NULL,
    price REAL NOT NULL,         -- quote currency per unit of base
    size REAL NOT NULL,          -- units of base
    exchange_id INTEGER,         -- the exchange's own number of this trade
    exchange_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE signals (
    id INTEGER PRIMARY KEY, tick_id INTEGER NOT NULL UNIQUE REFERENCES ticks (id),
    symbol TEXT NOT NULL, side TEXT NOT NULL, reason TEXT NOT NULL,
    confidence REAL NOT NULL,    -- 0 to 1
    size REAL NOT NULL,          -- units of base
    created_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, signal_id INTEGER NOT NULL UNIQUE REFERENCES signals (id),
    symbol TEXT NOT NULL, side TEXT NOT NULL,
    size REAL NOT NULL,          -- units of base
    price REAL NOT NULL,         -- quote currency per unit of base
    status TEXT NOT NULL,        -- FILLED or REJECTED
    reason TEXT NOT NULL, mode TEXT NOT NULL, created_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE trades (
    id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL UNIQUE REFERENCES orders (id),
    symbol TEXT NOT NULL, side TEXT NOT NULL,
    size REAL NOT NULL,          -- units of base
    price REAL NOT NULL,         -- quote currency per unit of base
    fee REAL NOT NULL,           -- quote currency
    created_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE gaps (
    id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES runs (id),
    kind TEXT NOT NULL,          -- loss: sampled_out rejected duplicate dropped stop missed
                                 -- silence: down stale crash pause
    source TEXT NOT NULL, symbol TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    to_ms INTEGER,               -- NULL while it is open
    count INTEGER                -- trades of the market; NULL when it cannot be known
) STRICT;
"""

# The indexes are partial and contain few rows: a start finds what a crash left open without reading the tables.
_V2 = """
ALTER TABLE runs ADD COLUMN durability TEXT /* normal or power, as its writer read it back; NULL in older runs */;
ALTER TABLE runs ADD COLUMN ticks_expired INTEGER NOT NULL DEFAULT 0 /* of ticks_stored, deleted by retention_days */;
CREATE INDEX runs_open ON runs (id) WHERE ended_ms IS NULL;
CREATE INDEX gaps_open ON gaps (run_id) WHERE to_ms IS NULL;
"""

_V3 = """
ALTER TABLE runs ADD COLUMN state TEXT /* JSON, see docs/storage.md; as of the counters; NULL in older runs */;
ALTER TABLE ticks ADD COLUMN filled INTEGER NOT NULL DEFAULT 0 /* 1: missing at first, then repeated by the exchange */;
"""

# Entry n brings a database from user_version n to n + 1.
MIGRATIONS = (_V1, _V2, _V3)


def _read_features(con: sqlite3.Connection) -> dict[str, set[str]]:
    """By table: the names of its columns, its foreign keys, and STRICT where it is."""
    tables = {}
    for _, name, kind, _, _, strict in con.execute("PRAGMA table_list").fetchall():
        if kind == "table" and not name.startswith("sqlite_"):
            features = {row[1] for row in con.execute(f'PRAGMA table_info("{name}")')}
            features |= {f"{row[3]} REFERENCES {row[2]}" for row in con.execute(f'PRAGMA foreign_key_list("{name}")')}
            tables[name] = features | ({"STRICT"} if strict else set())
    return tables


def check_application(con: sqlite3.Connection, path: str) -> None:
    """Raises StorageError when the database was not created by this engine. Reads one page."""
    (application_id,) = con.execute("PRAGMA application_id").fetchone()
    (version,) = con.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID or version < 1:
        raise StorageError(f"{path} is not a database of this engine")


def check_schema(con: sqlite3.Connection, path: str) -> None:
    """Raises StorageError when the database is damaged, or was not created by this engine."""
    tables = _read_features(con)
    (application_id,) = con.execute("PRAGMA application_id").fetchone()
    (version,) = con.execute("PRAGMA user_version").fetchone()
    (empty,) = con.execute("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)").fetchone()
    if empty and not application_id and not version:
        return
    if application_id != APPLICATION_ID:
        raise StorageError(f"{path}: wrong schema: not a database of this engine; name another app.db_path")
    if version >= len(MIGRATIONS):
        with closing(sqlite3.connect(":memory:")) as fresh:
            for script in MIGRATIONS:
                fresh.executescript(script)
            for table, features in _read_features(fresh).items():
                missing = sorted(features - tables.get(table, set()))
                if missing:
                    raise StorageError(f"{path}: wrong schema: {table}: {missing[0]} is missing")
    # SQLite checks a tree in one instruction. Inside it (3.40) it heeds an interrupt, but no progress handler.
    timer = threading.Timer(CHECK_S, con.interrupt)
    timer.start()
    try:
        result = con.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        result = "ok"  # as far as the time allowed
    finally:
        timer.cancel()
        timer.join()
    if result != "ok":
        raise StorageError(f"{path}: is corrupt: {result}")
