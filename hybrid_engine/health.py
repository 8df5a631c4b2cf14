"""The health check: whether the engine works, read from its database and from systemd, in constant time."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_engine.config.load import Config
from hybrid_engine.domain.run_state import read_run_state
from hybrid_engine.pressure import missing_controls
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.storage.database import DatabaseLocked, open_reader
from hybrid_engine.storage.schema import APPLICATION_ID

# Allowance for a late heartbeat and a slow commit.
GRACE_MS = 15_000
SYSTEMCTL_S = 5.0


class Check(NamedTuple):
    name: str
    ok: bool
    detail: str


class Health(NamedTuple):
    """`run` is the newest run's row by column, or None where it could not be read."""

    checks: list[Check]
    run: dict[str, Any] | None

    @property
    def healthy(self) -> bool:
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, object]:
        return {"healthy": self.healthy, "checks": [check._asdict() for check in self.checks], "run": self.run}


def check_health(config: Config, unit: str | None = None) -> Health:
    """Run every check once. `unit` must be active (None: not checked). Never raises for a database or a systemd."""
    unit_checks = [] if unit is None else [check_unit(unit)]
    run, detail = _read_newest_run(Path(config.settings.app.db_path))
    database = Check("database", run is not None, detail)
    return Health([*unit_checks, database, *(_check_run(config, run) if run else [])], run)


def check_unit(unit: str) -> Check:
    """Whether systemd reports the unit as active; a unit that keeps restarting is not."""
    command = ("systemctl", "show", "--property=ActiveState,SubState", "--", unit)
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SYSTEMCTL_S)
        properties = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
        error_text = result.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        properties, error_text = {}, str(error)
    state = properties.get("ActiveState")
    detail = f"{state} ({properties.get('SubState')})" if state else f"systemctl does not say: {error_text}"
    return Check("unit", state in ("active", "reloading"), f"{unit}: {detail}")


def _read_newest_run(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The last row of `runs` and the path, or None and why there is no row. Reads one row, however many there are."""
    try:
        if not path.exists():
            return None, f"{path} does not exist: has the engine ever run?"
        with closing(open_reader(path, passive=True)) as con:
            if con.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                return None, f"{path} is not a database of this engine"
            con.row_factory = sqlite3.Row
            run = con.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    except (StorageError, DatabaseLocked, sqlite3.Error, OSError) as error:
        return None, f"{path}: {error}"
    return (dict(run), str(path)) if run else (None, f"{path} holds no run yet")


def _check_run(config: Config, run: dict[str, Any]) -> list[Check]:
    engine, now = config.settings.engine, now_ms()
    allowed_ms = int(engine.heartbeat_interval_secs * 1000) + GRACE_MS
    if run["ended_ms"] is not None:
        running = Check("running", False, f"run {run['id']} ended with exit code {run['exit_code']}")
    else:
        age_ms = now - run["updated_ms"]
        running = Check("running", age_ms <= allowed_ms, f"run {run['id']}, counters {age_ms / 1000:.1f} s old")
    # In force is what the writer read back from its own connection; runs of earlier releases have not stored it.
    in_force = run.get("durability")
    detail = f"{in_force or 'unknown, an earlier release'}, configured {engine.durability}"
    durability = Check("durability", in_force in (None, engine.durability), detail)
    terms = ("sampled_out", "rejected", "duplicate", "dropped", "waiting", "admitted")
    total = sum(run[term] for term in terms)
    # The check's name is part of the output of `health --json`, and stays.
    accounting = Check("books", run["received"] == total, f"received {run['received']}, accounted for {total}")
    if run["last_frame_ms"] is None:
        since_ms = now - run["started_ms"]
        frames = Check("frames", since_ms <= allowed_ms, f"no frame yet, {since_ms / 1000:.1f} s after the start")
    else:
        # A quiet market is healthy: heartbeats and pongs are frames too, and arrive within dead_after_s.
        frame_ms = now - run["last_frame_ms"]
        limit_ms = allowed_ms + int(max(engine.dead_after_s * 1000, engine.tick_interval_ms))
        frames = Check("frames", frame_ms <= limit_ms, f"newest frame {frame_ms / 1000:.1f} s old")
    # Told and not failed: it is the kernel's, and the engine works without.
    kernel = [Check("kernel", True, "; ".join(missing))] if (missing := missing_controls()) else []
    return [running, durability, accounting, frames, _check_symbols(run.get("state")), *kernel]


def _check_symbols(text: str | None) -> Check:
    """Whether each symbol that the sources are asked for comes from some source."""
    state = read_run_state(text)
    told = [f"{one.symbol} {one.reason} at {one.source}, from {one.provider or 'no other'}" for one in state.unfed]
    more = [f"{state.unnamed} more"] if state.unnamed else []
    fed = all(one.provider for one in state.unfed)  # those without a provider are named first
    return Check("symbols", fed, "; ".join(told + more) or "none is told of as refused, silent or never traded")
