"""Opening a database file: for one writer, verified before anything is written, or for reading only.

Raises `Locked` when somebody else holds the database (that is waited for, never an error by itself) and `StorageError`
for everything else: cannot be opened, is not ours, is corrupt, is full.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.storage.schema import APPLICATION_ID, MIGRATIONS, refuse_foreign

# busy_timeout as promised and verified, and as the writer then uses it: short tries, so that each is a sign of life.
BUSY_TIMEOUT_MS = 5000
TRY_MS = 250
# Rows are appended: what is worth caching is where the tables and their indexes end. (SQLite's own default is 2000.)
CACHE_KIB = 512

SMALLEST = 512  # bytes of the smallest page: what is smaller and not empty, SQLite would write over

# PRAGMA synchronous, by durability: what it asks for, and what is then read back.
SYNCHRONOUS = {"normal": 1, "power": 2}
# Pages in the write-ahead log at which SQLite checkpoints by itself. With "normal" it never does: checkpointer.py.
AUTOCHECKPOINT_PAGES = {"normal": 0, "power": 500}
# A log that grew beyond this is cut back when it begins anew.
KEPT_LOG_BYTES = 32 * 1024 * 1024

_LOCKS = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Locked(Exception):
    """Another connection holds the database."""


def is_lock(error: Exception) -> bool:
    """Whether somebody else holding a database is what went wrong."""
    return isinstance(error, Locked) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _LOCKS


@contextmanager
def translated(path: str) -> Iterator[None]:
    """SQLite's and the system's errors as Locked or StorageError, naming the file."""
    try:
        yield
    except sqlite3.Error as error:
        if is_lock(error):
            raise Locked(f"{path}: {error}") from error
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise StorageError(f"{path}: {error} ({name})") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


@contextmanager
def transaction(con: sqlite3.Connection) -> Iterator[None]:
    """All of it, or nothing."""
    try:
        con.execute("BEGIN IMMEDIATE")  # in here: interrupted at its end, it has begun all the same
        yield
        con.execute("COMMIT")
    except BaseException:
        if con.in_transaction:
            con.execute("ROLLBACK")
        raise


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises StorageError or Locked."""
    with translated(str(path)):
        return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_MS / 1000)


def open_at_rest(path: Path) -> sqlite3.Connection:
    """The same, and no file appears beside one that nobody uses, for whoever may not write there. It may be older than
    the newest commit, by what an engine does that starts meanwhile: for a look, not for a copy.
    """
    with translated(str(path)):
        return sqlite3.connect(_as_it_lies(path), uri=True, timeout=BUSY_TIMEOUT_MS / 1000)


def claim(path: Path) -> int:
    """Be the only writer, for as long as the descriptor is open. Raises StorageError.

    flock does not meet SQLite's own locks, and is gone with the process.
    """
    with translated(str(path)):
        if not path.parent.is_dir():
            raise StorageError(
                f"{path}: the directory {path.parent} does not exist; make it, or name another app.db_path"
            )
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise StorageError(f"{path}: another engine writes to this database; one writer at a time") from error
        return fd


def open_writer(path: Path, durability: str) -> tuple[sqlite3.Connection, dict[str, object]]:
    """Check what is there, make what is not, and the PRAGMAs in force as they were read back.

    Raises StorageError or Locked, with nothing changed.
    """
    with translated(str(path)):
        size = path.stat().st_size
        if 0 < size < SMALLEST:
            raise StorageError(f"{path}: its {size} bytes are no database; name another app.db_path")
        if size:
            with closing(sqlite3.connect(_as_it_lies(path), uri=True, timeout=TRY_MS / 1000)) as con:
                refuse_foreign(con, str(path))
        # The three threads that use it take turns: main before the street runs, persist, main after it ended.
        con = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=TRY_MS / 1000)
        try:
            pragmas = _verify(con, str(path), durability)
            _migrate(con)
        except BaseException:
            con.close()
            raise
        return con, pragmas


def _as_it_lies(path: Path) -> str:
    """The URI that reads a database and leaves nothing behind.

    Opened otherwise, if only for reading, one in WAL mode gets its -wal and -shm files. One that has a -wal is in use,
    or its newest rows are in there after a crash.
    """
    file = path.resolve()
    used = Path(f"{file}-wal").exists()
    return f"{file.as_uri()}?mode=ro" + ("" if used else "&immutable=1")


def _verify(con: sqlite3.Connection, path: str, durability: str) -> dict[str, object]:
    promised = {
        "journal_mode": "wal",
        "synchronous": SYNCHRONOUS[durability],
        "busy_timeout": BUSY_TIMEOUT_MS,
        "temp_store": 2,
    }
    wanted = {**promised, "foreign_keys": 1}
    # WAL first, and under the short timeout: it is the one that can meet a lock.
    for pragma, value in wanted.items():
        con.execute(f"PRAGMA {pragma} = {value}")
    found = {pragma: con.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in wanted}
    for pragma, value in wanted.items():
        if found[pragma] != value:
            raise StorageError(f"{path}: PRAGMA {pragma} is {found[pragma]!r} where {value!r} was set")
    con.execute(f"PRAGMA busy_timeout = {TRY_MS}")
    con.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    con.execute(f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT_PAGES[durability]}")
    con.execute(f"PRAGMA journal_size_limit = {KEPT_LOG_BYTES}")
    return {pragma: found[pragma] for pragma in promised}


def _migrate(con: sqlite3.Connection) -> None:
    (version,) = con.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        with transaction(con):
            for statement in script.split(";\n"):
                con.execute(statement)
            con.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            con.execute(f"PRAGMA user_version = {number}")
