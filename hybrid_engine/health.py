"""Is the engine well? Asked from outside the process, of the database alone, in constant time."""

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from hybrid_engine.config import Config
from hybrid_engine.database import Locked, open_reader
from hybrid_engine.exits import StorageError
from hybrid_engine.schema import APPLICATION_ID
from hybrid_engine.store import now_ms

# A heartbeat may come late, and one commit may take its time.
GRACE_MS = 15_000


class Check(NamedTuple):
    name: str
    ok: bool
    detail: str


def checks(config: Config) -> list[Check]:
    """Each check with its result; the engine is healthy when all are ok. Never raises for a sick database."""
    import sqlite3

    path = Path(config.settings.app.db_path)
    try:
        if not path.exists():
            return [Check("database", False, f"{path} does not exist: has the engine ever run?")]
        with closing(open_reader(path)) as con:
            if con.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                return [Check("database", False, f"{path} is not a database of this engine")]
            con.row_factory = sqlite3.Row
            run = con.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    except (StorageError, Locked, sqlite3.Error, OSError) as error:
        return [Check("database", False, f"{path}: {error}")]
    if run is None:
        return [Check("database", False, f"{path} holds no run yet")]
    engine = config.settings.engine
    allowed_ms = int(engine.heartbeat_interval_secs * 1000) + GRACE_MS
    found = [Check("database", True, str(path))]
    if run["ended_ms"] is not None:
        found.append(Check("running", False, f"run {run['id']} ended with exit code {run['exit_code']}"))
    else:
        age_ms = now_ms() - run["updated_ms"]
        found.append(Check("running", age_ms <= allowed_ms, f"run {run['id']}, counters {age_ms / 1000:.1f} s old"))
    # What the writer read back of its own connection; runs of earlier releases do not say.
    asked, in_force = engine.durability, run["durability"] if "durability" in run.keys() else None  # noqa: SIM118
    detail = f"{in_force or 'not told by this release'}, configured {asked}"
    found.append(Check("durability", in_force in (None, asked), detail))
    terms = ("sampled_out", "rejected", "duplicate", "dropped", "waiting", "admitted")
    total = sum(run[term] for term in terms)
    found.append(Check("books", run["received"] == total, f"received {run['received']}, accounted for {total}"))
    if run["last_frame_ms"] is None:
        since_ms = now_ms() - run["started_ms"]
        found.append(Check("frames", since_ms <= allowed_ms, f"no frame yet, {since_ms / 1000:.1f} s after the start"))
    else:
        # A quiet market is healthy: heartbeats and pongs are frames too, and come within dead_after_s.
        frame_ms = now_ms() - run["last_frame_ms"]
        limit_ms = allowed_ms + int(max(engine.dead_after_s * 1000, engine.tick_interval_ms))
        found.append(Check("frames", frame_ms <= limit_ms, f"newest frame {frame_ms / 1000:.1f} s old"))
    return found
