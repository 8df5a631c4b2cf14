"""REPLAY: admits the ticks of an earlier run again, in order, with their ids and times, without sampling them."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from hybrid_engine.config.settings import ReplayFrom, Settings
from hybrid_engine.ingest.stage import IngestStage
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import ConfigError, OverloadError, StorageError
from hybrid_engine.storage.database import DatabaseLocked, is_lock, open_reader
from hybrid_engine.storage.store import Store, read_ticks

CHUNK = 256


def check_target(settings: Settings, store: Store) -> None:
    """Check that the run can be replayed into the database `app.db_path`.

    Raises ConfigError when the run does not exist or is incomplete, or the database already holds ticks with its ids.
    Waits for a lock on the earlier run's database; raises OverloadError when it lasts for `overload_after_s`.
    """
    source, limit_s = settings.engine.replay_from, settings.engine.overload_after_s
    deadline = time.monotonic() + limit_s
    while True:
        try:
            first, last = _read_id_range(source)
            break
        except (sqlite3.Error, StorageError, DatabaseLocked) as error:
            if not is_lock(error):
                where = f"engine.replay_from.database = {source.database}"
                raise ConfigError(f"{where}: cannot be replayed: {error}") from error
            if time.monotonic() >= deadline:
                raise OverloadError(f"{source.database}: {error}; for {limit_s:g} s") from error
    if first is not None and last is not None and store.has_ticks_between(first, last):
        where = f"app.db_path = {settings.app.db_path}"
        raise ConfigError(f"{where}: holds ticks with ids {first} to {last}, which REPLAY keeps; name an empty file")


def _read_id_range(source: ReplayFrom) -> tuple[int | None, int | None]:
    """The run's first and last tick id. Raises ConfigError when it cannot be replayed."""
    with closing(open_reader(Path(source.database))) as con:
        first, last = con.execute("SELECT min(id), max(id) FROM ticks WHERE run_id = ?", (source.run,)).fetchone()
        _check_complete(con, source)
    return first, last


def _check_complete(con: sqlite3.Connection, source: ReplayFrom) -> None:
    """Raises ConfigError where the run's first ticks were deleted: a replay would give other signals than the run."""
    con.row_factory = sqlite3.Row
    run = con.execute("SELECT * FROM runs WHERE id = ?", (source.run,)).fetchone()
    con.row_factory = None
    where = f"engine.replay_from.run = {source.run}"
    if run is None:
        raise ConfigError(f"{where}: {source.database} has no such run")
    expired = run["ticks_expired"] if "ticks_expired" in run.keys() else 0  # noqa: SIM118 - a database of an earlier release
    if expired:
        raise ConfigError(f"{where}: its first {expired} ticks were deleted by retention_days; name a younger run")


class ReplayIngest(IngestStage):
    """Reads a chunk at a time and waits for room in the tick channel: a replay need not keep up with a market."""

    def work(self) -> None:
        source = self.settings.replay_from
        self.feed.source = "replay"
        try:
            with closing(open_reader(Path(source.database))) as con:
                con.execute("BEGIN")  # one snapshot, also while an engine deletes old ticks
                _check_complete(con, source)
                for ticks in read_ticks(con, source.run, CHUNK):
                    self.heartbeat()
                    self.feed.last_frame_ms = now_ms()
                    self.admission.offer_replayed_ticks(ticks, self.heartbeat, lambda: self.stopping)
                    if self.stopping:
                        return
        except sqlite3.Error as error:
            if is_lock(error):
                raise OverloadError(f"{source.database}: {error}") from error
            raise StorageError(f"{source.database}: cannot be read on: {error}") from error
