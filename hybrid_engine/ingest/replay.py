"""REPLAY: the ticks of an earlier run, in order, same ids, same times. What was sampled is not sampled again."""

import sqlite3
from contextlib import closing
from pathlib import Path

from hybrid_engine.exits import ConfigError, StorageError
from hybrid_engine.ingest.base import IngestStage
from hybrid_engine.settings import EngineSettings
from hybrid_engine.store import Store, now_ms, open_reader, ticks_of_run

CHUNK = 256


def check_target(settings: EngineSettings, target: Path, store: Store) -> None:
    """Raises ConfigError when the run does not exist or the target database already holds ticks with its ids."""
    source = settings.replay_from
    try:
        with closing(open_reader(Path(source.database))) as con:
            query = "SELECT min(id), max(id) FROM ticks WHERE run_id = ?"
            known = con.execute("SELECT 1 FROM runs WHERE id = ?", (source.run,)).fetchone()
            first, last = con.execute(query, (source.run,)).fetchone()
    except (sqlite3.Error, StorageError) as error:
        raise ConfigError(f"engine.replay_from.database = {source.database}: cannot be replayed: {error}") from error
    if known is None:
        raise ConfigError(f"engine.replay_from.run = {source.run}: {source.database} has no such run")
    if first is not None and store.holds_any_of(first, last):
        raise ConfigError(
            f"app.db_path = {target}: holds ticks with ids {first} to {last}, which REPLAY keeps; name an empty file"
        )


class ReplayIngest(IngestStage):
    """Reads ahead a chunk at a time and waits for room: a replay has no market to keep up with."""

    def work(self) -> None:
        source = self.settings.replay_from
        self.feed.source = "replay"
        try:
            with closing(open_reader(Path(source.database))) as con:
                for ticks in ticks_of_run(con, source.run, CHUNK):
                    self.beat()
                    self.feed.last_frame_ms = now_ms()
                    self.door.offer_replayed(ticks, self.beat, lambda: self.stopping)
                    if self.stopping:
                        return
        except sqlite3.Error as error:
            raise StorageError(f"{source.database}: cannot be read on: {error}") from error
