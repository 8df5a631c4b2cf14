"""Opens database files: for the one writer, verified before anything is written, or for reading only.

Raises `DatabaseLocked` when another connection holds a lock (callers wait; a lock is no error by itself), and
`StorageError` for everything else: the file cannot be opened, is not the engine's, is corrupt, the disk is full.
"""

import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from hybrid_engine.runtime.errors import OverloadError, StorageError
from hybrid_engine.storage.schema import APPLICATION_ID, MIGRATIONS, check_application, check_schema

# busy_timeout as it is documented and verified at the start. The writer then uses short attempts of TRY_MS instead, and
# shows a sign of life after each.
BUSY_TIMEOUT_MS = 5000
TRY_MS = 250
# Rows are appended, so only the ends of the tables and indexes are worth caching. (SQLite's default is 2000 KiB.)
CACHE_KIB = 512
MIN_DATABASE_BYTES = 512  # the smallest page; SQLite would overwrite a smaller file that is not empty
# The value of PRAGMA synchronous, by durability.
SYNCHRONOUS = {"normal": 1, "power": 2}
# Of a new database. A commit writes each page that it changed: of a few rows, the last page of each table and index.
# With SQLite's 4096 that was 1,770 bytes a tick at 20 a second, with 1024 it is 590 (docs/bench.md).
PAGE_BYTES = 1024
# Pages in the write-ahead log at which SQLite checkpoints by itself. With "normal" checkpointer.py does it instead.
AUTOCHECKPOINT_PAGES = {"normal": 0, "power": 500}
# A log file larger than this is truncated when SQLite restarts the log.
MAX_LOG_FILE_BYTES = 32 * 1024 * 1024
# Of a read that an engine disturbs by starting or stopping under it. The engine paces its starts.
SNAPSHOT_ATTEMPTS = 10

T = TypeVar("T")
_LOCKS = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class DatabaseLocked(Exception):
    """Another connection holds a lock on the database."""


def is_lock(error: Exception) -> bool:
    """Whether a lock of another connection caused the error."""
    return isinstance(error, DatabaseLocked) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _LOCKS


@contextmanager
def translate_errors(path: str) -> Iterator[None]:
    """Raise errors of SQLite and of the system as DatabaseLocked or StorageError, with the file's name."""
    try:
        yield
    except sqlite3.Error as error:
        if is_lock(error):
            raise DatabaseLocked(f"{path}: {error}") from error
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise StorageError(f"{path}: {error} ({name})") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


@contextmanager
def transaction(con: sqlite3.Connection) -> Iterator[None]:
    """Commit everything, or nothing when an exception is raised."""
    try:
        con.execute("BEGIN IMMEDIATE")  # inside the try: when it is interrupted, the transaction may have begun
        yield
        con.execute("COMMIT")
    except BaseException:
        if con.in_transaction:
            con.execute("ROLLBACK")
        raise


def open_reader(path: Path, *, passive: bool = False) -> sqlite3.Connection:
    """A connection that cannot write. Raises StorageError or DatabaseLocked.

    A `passive` one creates no files beside a database that nobody uses, so it works for a user who may not write there.
    It may miss commits of an engine that starts meanwhile: good for a status, not for a copy.
    """
    with translate_errors(str(path)):
        _refuse_other_kinds(path.resolve())
        uri = _passive_uri(path) if passive else f"{path.resolve().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_MS / 1000)


def read_snapshot(path: Path, read: Callable[[sqlite3.Connection], T]) -> T:
    """The result of `read` on one state of an engine's database: at rest, beside its engine, and after a crash.

    No file is created beside a database at rest, so a user may read it who may not write there. It is read without a
    lock then; where its file has changed under `read`, that is called again. Raises OverloadError where another program
    holds a lock for BUSY_TIMEOUT_MS, and StorageError.
    """
    file = path.resolve()
    for _ in range(SNAPSHOT_ATTEMPTS):
        with translate_errors(str(path)):
            if not file.exists():
                raise StorageError(f"{path} does not exist: has the engine ever run?")
            at_rest = _state_at_rest(file)
        try:
            return _read_once(file, at_rest, read)
        except DatabaseLocked as error:
            raise OverloadError(
                f"{error}, for {BUSY_TIMEOUT_MS // 1000} s: another program holds it (`fuser {path}` tells which)"
            ) from error
        except (StorageError, _Changed) as error:
            with translate_errors(str(path)):
                if _state_at_rest(file) != at_rest:
                    continue
                if at_rest is None and not os.path.exists(f"{file}-shm"):
                    why = f"{file}-wal has no index beside it, and to make one takes the right to write there"
                    raise StorageError(f"{error}: {why}") from error
            raise
    raise StorageError(f"{path}: an engine started or stopped at each of {SNAPSHOT_ATTEMPTS} attempts to read it")


class _Changed(Exception):
    """A file that was read without a lock is another one now."""


def _read_once(file: Path, at_rest: "_State | None", read: Callable[[sqlite3.Connection], T]) -> T:
    with translate_errors(str(file)):
        _refuse_other_kinds(file)
        uri = f"{file.as_uri()}?mode=ro" + ("&immutable=1" if at_rest else "")
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)) as con:
            con.execute("BEGIN")
            check_application(con, str(file))  # the first read: from here on it is this state
            result = read(con)
        if at_rest and _state_at_rest(file) != at_rest:
            raise _Changed
        return result


_State = tuple[int, ...]


def _state_at_rest(file: Path) -> _State | None:
    """What differs once somebody has written to the file. None while it has a log: it is in use, or was at a crash."""
    if Path(f"{file}-wal").exists():
        return None
    status = file.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def lock_for_writing(path: Path) -> int:
    """Create the file where it is missing, and lock it. Returns the lock's descriptor. Raises StorageError."""
    with translate_errors(str(path)):
        if not path.parent.is_dir():
            where = f"{path}: the directory {path.parent}"
            raise StorageError(f"{where} does not exist; create it, or name another app.db_path")
        _refuse_orphaned_log(path.resolve())
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        _let_group_read(path)
        try:  # does not conflict with SQLite's own locks, and ends with the process
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise StorageError(f"{path}: another engine writes to this database; one writer at a time") from error
        return fd


def _refuse_orphaned_log(path: Path) -> None:
    """Raise StorageError where a log of committed rows has lost its database: SQLite would delete it."""
    log = Path(f"{path}-wal")
    with suppress(FileNotFoundError):
        if not log.stat().st_size or (path.exists() and path.stat().st_size):
            return
        raise StorageError(
            f"{log} has committed rows of a database that is not at {path} any more; put that back beside its log, or"
            " move the log to where it is now, under its name and with -wal at the end; only then start again"
        )


def _let_group_read(path: Path) -> None:
    """Whatever the umask is: the flight recorder is in the group. SQLite gives its files the database's mode."""
    for name in (f"{path}", f"{path}-wal", f"{path}-shm"):
        with suppress(OSError):  # not there, or of another owner
            mode = stat.S_IMODE(os.stat(name).st_mode)
            if not mode & stat.S_IRGRP:
                os.chmod(name, mode | stat.S_IRGRP)


def open_writer(path: Path, durability: str) -> tuple[sqlite3.Connection, dict[str, object]]:
    """Check an existing database, create what is missing, and set the PRAGMAs, which are returned as read back.

    Raises StorageError or DatabaseLocked, with nothing changed.
    """
    with translate_errors(str(path)):
        size = path.stat().st_size
        if 0 < size < MIN_DATABASE_BYTES:
            raise StorageError(f"{path}: its {size} bytes are not a database; name another app.db_path")
        if size:
            with closing(sqlite3.connect(_passive_uri(path), uri=True, timeout=TRY_MS / 1000)) as con:
                check_schema(con, str(path))
        # Threads use it one after the other: main before the pipeline starts, then persist, main after it has ended.
        con = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=TRY_MS / 1000)
        try:
            pragmas = _set_pragmas(con, str(path), durability)
            _migrate(con)
        except BaseException:
            con.close()
            raise
        return con, pragmas


def _refuse_other_kinds(path: Path) -> None:
    """Raise StorageError where something else stands in the place of a file: opening a FIFO would wait for ever."""
    for name in (f"{path}", f"{path}-wal", f"{path}-shm"):
        try:
            regular = stat.S_ISREG(os.lstat(name).st_mode)
        except FileNotFoundError:
            continue
        if not regular:
            raise StorageError(f"{name} is no file, and was not opened")


def _passive_uri(path: Path) -> str:
    """The URI for reading a database without creating files.

    A database in WAL mode gets its -wal and -shm files even when it is opened for reading, unless it is immutable. With
    a -wal it is not: an engine uses it, or the newest rows are in there after a crash.
    """
    file = path.resolve()
    in_use = Path(f"{file}-wal").exists()
    return f"{file.as_uri()}?mode=ro" + ("" if in_use else "&immutable=1")


def _set_pragmas(con: sqlite3.Connection, path: str, durability: str) -> dict[str, object]:
    documented = {
        "journal_mode": "wal",
        "synchronous": SYNCHRONOUS[durability],
        "busy_timeout": BUSY_TIMEOUT_MS,
        "temp_store": 2,
    }
    pragmas = {**documented, "foreign_keys": 1}
    con.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    # WAL first, while the short timeout is in force: this one can meet a lock.
    for pragma, value in pragmas.items():
        con.execute(f"PRAGMA {pragma} = {value}")
    actual = {pragma: con.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas}
    for pragma, value in pragmas.items():
        if actual[pragma] != value:
            raise StorageError(f"{path}: PRAGMA {pragma} is {actual[pragma]!r} where {value!r} was set")
    con.execute(f"PRAGMA busy_timeout = {TRY_MS}")
    con.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    con.execute(f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT_PAGES[durability]}")
    con.execute(f"PRAGMA journal_size_limit = {MAX_LOG_FILE_BYTES}")
    return {pragma: actual[pragma] for pragma in documented}


def _migrate(con: sqlite3.Connection) -> None:
    (version,) = con.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        with transaction(con):
            for statement in script.split(";\n"):
                con.execute(statement)
            con.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            con.execute(f"PRAGMA user_version = {number}")
