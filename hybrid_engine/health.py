"""Is the engine well? Asked from outside the process, of its database and of systemd, in constant time."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_engine.config.load import Config
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.storage.database import Locked, open_at_rest
from hybrid_engine.storage.schema import APPLICATION_ID

# A heartbeat may come late, and one commit may take its time.
GRACE_MS = 15_000
SYSTEMCTL_S = 5.0


class Check(NamedTuple):
    name: str
    ok: bool
    detail: str


class Health(NamedTuple):
    """`run`: the newest run's row, by column; None where no database tells."""

    checks: list[Check]
    run: dict[str, Any] | None

    @property
    def healthy(self) -> bool:
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, object]:
        return {
            "healthy": self.healthy,
            "checks": [check._asdict() for check in self.checks],
            "run": self.run,
        }


def look(config: Config, unit: str | None = None) -> Health:
    """Look once. Never raises for a sick database or a systemd that does not answer. unit: has to be active."""
    of_unit = [] if unit is None else [unit_check(unit)]
    run, why = _newest_run(Path(config.settings.app.db_path))
    database = Check("database", run is not None, why)
    return Health([*of_unit, database, *(_of_run(config, run) if run else [])], run)


def unit_check(unit: str) -> Check:
    """Whether systemd calls the unit active; one that is starting again and again is not."""
    asked = ("systemctl", "show", "--property=ActiveState,SubState", "--", unit)
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=SYSTEMCTL_S)
        said, why = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line), done.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        said, why = {}, str(error)
    state = said.get("ActiveState")
    told = f"{state} ({said.get('SubState')})" if state else f"systemctl does not say: {why}"
    return Check("unit", state in ("active", "reloading"), f"{unit}: {told}")


def _newest_run(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The last row of `runs`, or why there is none. Asks for one row, however many there are."""
    try:
        if not path.exists():
            return None, f"{path} does not exist: has the engine ever run?"
        with closing(open_at_rest(path)) as con:
            if con.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                return None, f"{path} is not a database of this engine"
            con.row_factory = sqlite3.Row
            run = con.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    except (StorageError, Locked, sqlite3.Error, OSError) as error:
        return None, f"{path}: {error}"
    return (dict(run), str(path)) if run else (None, f"{path} holds no run yet")


def _of_run(config: Config, run: dict[str, Any]) -> list[Check]:
    found: list[Check] = []
    engine = config.settings.engine
    allowed_ms = int(engine.heartbeat_interval_secs * 1000) + GRACE_MS
    if run["ended_ms"] is not None:
        found.append(Check("running", False, f"run {run['id']} ended with exit code {run['exit_code']}"))
    else:
        age_ms = now_ms() - run["updated_ms"]
        found.append(Check("running", age_ms <= allowed_ms, f"run {run['id']}, counters {age_ms / 1000:.1f} s old"))
    # What the writer read back of its own connection; runs of earlier releases do not say.
    asked, in_force = engine.durability, run.get("durability")
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
