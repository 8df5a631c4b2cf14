"""The engine's database, opened read-only: never a count over a table that grows, ids and rows instead."""

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from proofs.host.regular_file import as_owner_of, irregular
from proofs.verdict import Json

Row = dict[str, Json]
_UNREADABLE_S = 2.0


class Store:
    """One database file. Every call opens and closes it, so that nothing here ever holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, sql: str, arguments: Sequence[Json] | dict[str, Json] = ()) -> list[Row]:
        """Raises sqlite3.Error: no database yet, no such table, locked for longer than 2 s, no file."""
        _refuse_other_kinds(self.path)
        try:
            return self._rows("mode=ro", sql, arguments)
        except sqlite3.OperationalError as error:
            # A full disk has no room for the index of a log. Without a log the file holds all of it.
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_IOERR_SHMSIZE or self._log_bytes():
                raise
            return self._rows("immutable=1", sql, arguments)

    def _rows(self, how: str, sql: str, arguments: Sequence[Json] | dict[str, Json]) -> list[Row]:
        with (
            as_owner_of(self.path.parent),
            closing(sqlite3.connect(f"file:{self.path}?{how}", uri=True, timeout=2)) as connection,
        ):
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, arguments)]

    def _log_bytes(self) -> int:
        log = Path(f"{self.path}-wal")
        return log.stat().st_size if log.exists() else 0

    def last_tick(self) -> int:
        """The highest tick id, 0 while there is none (or no database yet). Raises sqlite3.OperationalError."""
        return self._value("SELECT max(id) AS id FROM ticks")

    def first_ms_after_run(self, run: int) -> int:
        """When the first tick of a later run was received, 0 while none is stored. Raises sqlite3.OperationalError."""
        return self._value("SELECT min(received_ms) AS first_ms FROM ticks WHERE run_id > ?", (run,))

    def _value(self, sql: str, arguments: Sequence[Json] = ()) -> int:
        """The number that a query returns, 0 for none.

        An engine that starts may take the log away for a moment: that is no 0, and is read again for up to 2 s.

        Raises:
            sqlite3.OperationalError: it could not be read in that time.
        """
        deadline = time.monotonic() + _UNREADABLE_S
        while True:
            try:
                return int(next(iter(self.rows(sql, arguments)[0].values())) or 0)
            except sqlite3.OperationalError as error:
                if not os.path.lexists(self.path) or "no such table" in str(error):
                    return 0
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.02)

    def newest_ms(self) -> int:
        """When the newest stored tick was received, 0 while there is none."""
        rows = self.rows("SELECT received_ms FROM ticks ORDER BY id DESC LIMIT 1")
        return int(rows[0]["received_ms"]) if rows else 0

    def ticks(self, up_to: int) -> list[Row]:
        return self.rows("SELECT * FROM ticks WHERE id <= ? ORDER BY id", (up_to,))

    def exchange_ids(self, run: int) -> list[int | None]:
        rows = self.rows("SELECT exchange_id FROM ticks WHERE run_id = ? ORDER BY id", (run,))
        return [row["exchange_id"] for row in rows]

    def first_of(self, source: str, after: int = 0) -> Row | None:
        """The first tick of a source with an id above `after`."""
        sql = "SELECT * FROM ticks WHERE id > ? AND source = ? ORDER BY id LIMIT 1"
        try:
            return next(iter(self.rows(sql, (after, source))), None)
        except sqlite3.OperationalError:
            return None

    def last_of(self, source: str, before: int) -> Row | None:
        sql = "SELECT * FROM ticks WHERE id < ? AND source = ? ORDER BY id DESC LIMIT 1"
        return next(iter(self.rows(sql, (before, source))), None)

    def runs(self) -> list[Row]:
        return self.rows("SELECT * FROM runs ORDER BY id")

    def gaps(self, run: int) -> list[Row]:
        return self.rows("SELECT * FROM gaps WHERE run_id = ? ORDER BY id", (run,))

    def integrity(self) -> str:
        return str(self.rows("PRAGMA integrity_check")[0]["integrity_check"])

    def broken_references(self) -> int:
        """Rows whose foreign key names nothing."""
        return len(self.rows("PRAGMA foreign_key_check"))


def _refuse_other_kinds(path: Path) -> None:
    """Refuse what an engine may have put in the place of its own files. Raises sqlite3.OperationalError.

    SQLite opens by name, follows links and waits for a FIFO's writer. An engine that replaces a file between this and
    the opening gains nothing by a link: it is opened as the engine's user.
    """
    for name in (str(path), f"{path}-wal", f"{path}-shm"):
        try:
            wrong = irregular(os.lstat(name), os.lstat(path.parent).st_uid)
        except OSError:
            continue
        if wrong:
            raise sqlite3.OperationalError(f"{name} {wrong}, and was not opened")


_TORN = """
SELECT t.id FROM ticks t LEFT JOIN signals s ON s.tick_id = t.id LEFT JOIN orders o ON o.signal_id = s.id
 LEFT JOIN trades r ON r.order_id = o.id
 WHERE (s.id IS NOT NULL AND o.id IS NULL) OR (o.status = 'FILLED' AND r.id IS NULL) OR (:each AND s.id IS NULL)
UNION SELECT s.id FROM signals s LEFT JOIN ticks t ON t.id = s.tick_id WHERE t.id IS NULL
UNION SELECT o.id FROM orders o LEFT JOIN signals s ON s.id = o.signal_id WHERE s.id IS NULL
UNION SELECT r.id FROM trades r LEFT JOIN orders o ON o.id = r.order_id WHERE o.id IS NULL
LIMIT 20
"""


def torn_chains(store: Store, each: bool = False) -> list[int]:
    """Ids of up to 20 chains that are not whole: a signal without its order, an order without its signal and so on.

    each: every tick has to have its signal (engine.signal_every_n_ticks = 1).
    """
    return [int(row["id"]) for row in store.rows(_TORN, {"each": each})]
