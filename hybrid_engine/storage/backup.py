"""`hybrid-engine backup`: copies the database into one file and checks it, beside a running engine or at rest."""

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as NotDone
from contextlib import closing
from pathlib import Path

from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.runtime.progress import Progress
from hybrid_engine.storage.database import read_snapshot, translate_errors
from hybrid_engine.storage.new_file import new_file
from hybrid_engine.storage.schema import check_application

# Of 4 KiB. After each step a signal is heeded, the progress is told, and what was copied is on its way to the disk: all
# of it at once in the end would hold up the engine's own writes.
STEP_PAGES = 1024
CHECK_S = 0.5  # between two looks at the check


def back_up(database: Path, path: Path) -> None:
    """Copy the database into the new file `path`, and check the copy. Raises ConfigError, StorageError, OverloadError.

    The copy is one state of the database. It is in SQLite's rollback mode, so that it can be read where no file may be
    created beside it; an engine that is started on it sets its own mode.
    """
    progress = Progress()
    with new_file(path, database) as draft:
        read_snapshot(database, lambda source: _copy(source, draft, f"{database} to {path}", progress))
        with translate_errors(str(path)):
            _check(draft, path, progress)
            size = draft.stat().st_size
    progress.finish(f"{path}: a copy of {database}, {size / 1e6:.1f} MB, checked")


def _copy(source: sqlite3.Connection, draft: Path, what: str, progress: Progress) -> None:
    """Copy what `source` reads.

    Its read transaction lasts for the whole copy. SQLite begins a copy anew when another process has committed between
    two steps, so without it a copy beside an engine might never end. It holds up no commit: the log grows meanwhile.
    """
    draft.write_bytes(b"")  # of an earlier attempt
    fd = os.open(draft, os.O_WRONLY | os.O_CLOEXEC)

    def show(status: int, remaining: int, total: int) -> None:
        os.fdatasync(fd)
        progress.show(f"copying {what}: {total - remaining} of {total} pages")

    try:
        with translate_errors(f"copying {what}"), closing(sqlite3.connect(draft, isolation_level=None)) as target:
            target.execute("PRAGMA journal_mode = OFF")  # whatever goes wrong, the file is deleted
            target.execute("PRAGMA synchronous = OFF")  # it is synced in the end
            source.backup(target, pages=STEP_PAGES, progress=show)
            target.execute("PRAGMA journal_mode = DELETE")
    finally:
        os.close(fd)


def _check(draft: Path, path: Path, progress: Progress) -> None:
    uri = f"{draft.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as con, ThreadPoolExecutor(1) as pool:
        check_application(con, str(path))
        # In a thread, because Python heeds no signal while SQLite works, and the check of a large file takes minutes.
        check = pool.submit(lambda: con.execute("PRAGMA integrity_check(1)").fetchone()[0])
        try:
            while True:
                try:
                    result = check.result(CHECK_S)
                    break
                except NotDone:
                    progress.show(f"checking {path}")
        except BaseException:
            while not check.done():  # an interrupt before the statement has begun is lost
                con.interrupt()
                wait([check], CHECK_S / 10)
            raise
    if result != "ok":
        raise StorageError(f"{path}: the copy is corrupt, as the database is: {result}; it was not kept")
