"""A database that is locked, on a full disk, or removed, while the engine runs."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.accounting import check_finished, check_snapshot, rows
from tests.support.notify import Manager
from tests.support.process import COMMAND, PATIENCE_S, EngineProcess, Launcher, clean_environment, wait_until


@contextmanager
def locked(db: Path, how: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
    """Hold the database's write lock."""
    with closing(sqlite3.connect(db, isolation_level=None, timeout=10)) as con:
        con.execute(f"BEGIN {how}")
        try:
            yield con
        finally:
            if con.in_transaction:
                con.execute("ROLLBACK")


@pytest.mark.holds("I6")
def test_lock_is_waited_for_without_loss(engine: Launcher) -> None:
    with Manager(engine.folder / "notify") as manager:
        process = engine.start(engine={"tick_interval_ms": 1, "overload_after_s": 30}, env=manager.env)
        process.heartbeat(lambda f: f["ticks_stored"] > 0)
        with locked(engine.db):
            waits = process.heartbeat(lambda f: f["lock_waits"] >= 3)
            started_at = time.monotonic()
            # An overloaded engine does not hang: its buffer fills, ticks are dropped, and the pings continue.
            full = process.heartbeat(lambda f: f["waiting"] >= 200 and f["dropped"] > 0)
            manager.wait("WATCHDOG=1", after=started_at)
            assert full["persist_errors"] == 0
            assert full["ticks_stored"] == waits["ticks_stored"]
        process.heartbeat(lambda f: f["ticks_stored"] > full["ticks_stored"] + 500)
        assert process.stop() == 0
    run = check_finished(engine.db)
    assert run["dropped"] > 0
    assert "stuck" not in " ".join(text for _, text in manager.messages)


def test_lasting_lock_exits_13_and_stores_admitted_ticks(engine: Launcher) -> None:
    process = engine.start(engine={"overload_after_s": 0.8})
    process.heartbeat(lambda f: f["ticks_stored"] > 0)
    with locked(engine.db):
        started_at = time.monotonic()
        process.wait("stopping")
        assert time.monotonic() - started_at >= 0.8
    assert process.code() == 13
    assert "blocked by a lock" in process.last_error()["message"]
    assert process.final()["admitted"] == process.final()["ticks_stored"]
    assert rows(engine.db, "SELECT exit_code, admitted - ticks_stored, waiting FROM runs") == [(13, 0, 0)]


@pytest.mark.holds("S13")
def test_stop_while_locked_exits_14_with_unstored_count(engine: Launcher) -> None:
    with Manager(engine.folder / "notify") as manager:
        small = {"tick": 8, "signal": 2, "persist": 4}
        process = engine.start(engine={"overload_after_s": 60}, channels=small, env=manager.env)
        process.heartbeat(lambda f: f["ticks_stored"] > 0)
        with locked(engine.db):
            process.heartbeat(lambda f: f["lock_waits"] > 0 and f["waiting"] == 8)
            started_at = time.monotonic()
            assert process.stop() == 14
            took = time.monotonic() - started_at
            manager.wait("STOPPING=1")
        pings = [at for at in manager.times("WATCHDOG=1") if at > started_at]
    final = process.final()
    unstored = final["admitted"] - final["ticks_stored"]
    assert unstored > 0
    assert process.last_error()["message"].startswith(f"{unstored} admitted ticks could not be stored")
    assert took < 9.5  # TimeoutStopSec=10
    assert len(pings) > 5
    # Ticks that wait when the five seconds are over are counted as dropped, not as admitted.
    assert process.messages("the drain took too long")[0]["dropped"] == 8
    assert final["waiting"] == 0
    with closing(sqlite3.connect(engine.db, isolation_level=None)) as con:
        check_snapshot(con, 1)
    # The next start closes it as a run that did not end.
    assert engine.start("--seconds", "0.3").code() == 0
    assert rows(engine.db, "SELECT kind FROM gaps WHERE run_id = 1 AND kind = 'crash'") == [("crash",)]


def test_locked_database_at_start_is_waited_for(engine: Launcher) -> None:
    engine.start("--seconds", "0.2").code()
    with Manager(engine.folder / "notify") as manager:
        with locked(engine.db):
            process = engine.start(env=manager.env)
            assert "locked" in process.wait("cannot open the database")["error"]
            assert manager.times("READY=1") == []
        process.ready()
        manager.wait("READY=1")
        assert process.stop() == 0
    check_finished(engine.db, 2)


def test_lasting_lock_at_start_exits_13_after_deadline(engine: Launcher) -> None:
    engine.start("--seconds", "0.2").code()
    with locked(engine.db):
        started_at = time.monotonic()
        process = engine.start(engine={"overload_after_s": 1.0})
        assert process.code() == 13
        assert time.monotonic() - started_at >= 1.0
    assert process.messages("ready") == []


def test_stop_before_database_opens_exits_0(engine: Launcher) -> None:
    engine.start("--seconds", "0.2").code()
    with locked(engine.db):
        process = engine.start(engine={"overload_after_s": 60})
        process.wait("cannot open the database")
        assert process.stop(timeout_s=5) == 0


def limit_size(process: EngineProcess, size: int) -> None:
    """From now on no file of `process` can grow beyond `size` bytes: EFBIG instead of a full disk's ENOSPC."""
    resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_full_disk_with_room_again_loses_nothing(engine: Launcher) -> None:
    process = engine.start(engine={"tick_interval_ms": 1, "storage_deadline_s": 30})
    process.heartbeat(lambda f: f["ticks_stored"] > 0)
    limit_size(process, 8192)
    full = process.heartbeat(lambda f: f["persist_errors"] > 1)
    limit_size(process, resource.RLIM_INFINITY)
    process.heartbeat(lambda f: f["ticks_stored"] > full["ticks_stored"] + 100)
    assert process.stop() == 0
    check_finished(engine.db)


def test_full_disk_exits_14_though_buffer_is_full_before(engine: Launcher) -> None:
    # The tick buffer overflows at once. That is not an overload (13): the disk is the cause.
    process = engine.start(
        engine={"tick_interval_ms": 1, "storage_deadline_s": 2.5, "overload_after_s": 0.5, "admit_wait_ms": 1},
        channels={"tick": 4, "signal": 2, "persist": 4},
    )
    process.heartbeat(lambda f: f["ticks_stored"] > 0)
    limit_size(process, 8192)
    full = process.heartbeat(lambda f: f["persist_errors"] > 0 and f["dropped"] > 0)
    assert process.code() == 14
    message = process.last_error()["message"]
    assert "for 2.5 s" in message
    assert process.final()["dropped"] > full["dropped"]
    final = process.final()
    assert final["admitted"] - final["ticks_stored"] > 0
    with closing(sqlite3.connect(engine.db, isolation_level=None)) as con:
        check_snapshot(con, 1)


def test_disk_that_comes_back_in_time_costs_drops_alone(engine: Launcher) -> None:
    """The buffer overflows for longer than overload_after_s, and goes on to for a moment behind the recovery."""
    process = engine.start(
        engine={"tick_interval_ms": 1, "storage_deadline_s": 30, "overload_after_s": 2.0, "admit_wait_ms": 1},
        channels={"tick": 64, "signal": 64, "persist": 64},
    )
    process.heartbeat(lambda f: f["ticks_stored"] > 0)
    limit_size(process, 8192)
    full = process.heartbeat(lambda f: f["persist_errors"] > 0 and f["dropped"] > 3000)  # for three seconds
    limit_size(process, resource.RLIM_INFINITY)
    process.heartbeat(lambda f: f["ticks_stored"] > full["ticks_stored"] + 1000)
    assert process.stop() == 0
    run = check_finished(engine.db)
    assert run["dropped"] >= full["dropped"]
    (missing,) = rows(engine.db, "SELECT sum(count) FROM gaps WHERE kind = 'dropped'")[0]
    assert missing == run["dropped"]


@pytest.mark.parametrize("kept", ["moved", "empty"])
def test_log_without_its_database_is_refused_and_kept(engine: Launcher, kept: str) -> None:
    """SQLite would delete it, with every committed row that no checkpoint has moved."""
    process = engine.start(engine={"tick_interval_ms": 5, "storage_deadline_s": 0.5})
    stored = process.heartbeat(lambda f: f["ticks_stored"] > 100)["ticks_stored"]
    process.kill()
    away, log = engine.folder / "away.db", engine.folder / f"{engine.db.name}-wal"
    engine.db.rename(away)
    if kept == "empty":
        engine.db.touch()
    size = log.stat().st_size
    again = engine.start(engine={"storage_deadline_s": 0.5})
    assert again.code() == 14
    for name in (str(log), str(engine.db)):
        assert name in again.last_error()["message"]
    assert log.stat().st_size == size > 0
    away.rename(engine.db)
    process = engine.start()
    process.ready()
    assert process.stop() == 0
    assert rows(engine.db, "SELECT count(*) FROM ticks WHERE run_id = 1")[0][0] >= stored


def test_log_that_nobody_reads_stops_nothing(engine: Launcher) -> None:
    settings = {"tick_interval_ms": 2, "heartbeat_interval_secs": 0.1, "log_level": "DEBUG"}
    command = [*COMMAND, "run", "--config", str(engine.write_config({"engine": settings})), "--db", str(engine.db)]
    with programs.start(command, stdout=subprocess.PIPE, env=clean_environment()) as process:
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)

        def stored() -> int:
            there = engine.db.exists() and rows(engine.db, "SELECT 1 FROM sqlite_schema WHERE name = 'ticks'")
            return int(rows(engine.db, "SELECT count(*) FROM ticks")[0][0]) if there else 0

        wait_until(lambda: stored() > 1000, "a thousand ticks")
        process.terminate()
        assert process.wait(10) == 0
        lines = process.stdout.read().splitlines()
    assert json.loads(lines[0])["fields"]["message"] == "engine starting"
    assert sum(map(len, lines)) < 2 * 4096
    check_finished(engine.db)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_removed_database_exits_14(engine: Launcher, how: str) -> None:
    """An open file can be written after it was deleted, but nobody would ever read it."""
    process = engine.start()
    process.heartbeat(lambda f: f["ticks_stored"] > 0)
    engine.db.rename(engine.folder / "away.db")
    if how == "replaced":
        engine.db.write_bytes(b"")
    assert process.code() == 14
    assert str(engine.db) in process.last_error()["message"]
    assert process.final()["admitted"] > process.final()["ticks_stored"]


@pytest.mark.holds("CHAINS")
def test_kill_at_any_moment_leaves_whole_chains(engine: Launcher) -> None:
    """The process is stopped and its database copied: what a crash at that moment would leave."""
    process = engine.start(
        engine={
            "tick_interval_ms": 1,
            "signal_every_n_ticks": 2,
            "batch_rows": 9,
            "flush_interval_ms": 3,
            "heartbeat_interval_secs": 0.1,
        }
    )
    process.heartbeat(lambda f: f["ticks_stored"] > 0)
    observed = set()
    for number in range(12):
        process.send(signal.SIGSTOP)
        wait_until(lambda: " T " in Path(f"/proc/{process.popen.pid}/stat").read_text(), "the process stopped")
        copy = engine.folder / f"copy{number}.db"
        for suffix in ("", "-wal"):
            shutil.copy(f"{engine.db}{suffix}", f"{copy}{suffix}")
        process.send(signal.SIGCONT)
        with closing(sqlite3.connect(copy, isolation_level=None)) as con:
            observed.add(check_snapshot(con, 1)["ticks_stored"])
            assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        process.wait("HEARTBEAT", lambda f: f["ticks_stored"] > max(observed))
    assert process.stop() == 0
    assert len(observed) == 12


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root to mount a small tmpfs")
def test_full_file_system_exits_14_and_keeps_the_database(engine: Launcher) -> None:
    mount = engine.folder / "disk"
    mount.mkdir()
    config = engine.write_config(
        {"app": {"db_path": str(mount / "hybrid.db")}, "engine": {"tick_interval_ms": 1, "storage_deadline_s": 1.0}}
    )
    command = f"mount -t tmpfs -o size=400k small {mount} && exec {' '.join(COMMAND)} run --config {config}"
    popen = programs.start(
        ["unshare", "--mount", "sh", "-c", command],
        stdout=subprocess.PIPE,
        env=clean_environment(),
        cwd=Path(__file__).parents[2],
    )
    process = EngineProcess(popen, config, mount / "hybrid.db")
    try:
        process.wait("cannot write to the database")
        # Read through the process's own mounts, while it has them.
        (engine.folder / "copy").mkdir()
        for name in ("hybrid.db", "hybrid.db-wal"):
            shutil.copy(f"/proc/{popen.pid}/root{mount}/{name}", engine.folder / "copy" / name)
        assert process.code() == 14
        assert "full" in process.last_error()["message"]
    finally:
        process.kill()
    with closing(sqlite3.connect(engine.folder / "copy" / "hybrid.db", isolation_level=None)) as con:
        assert check_snapshot(con, 1)["ticks_stored"] > 0
        assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_full_disk_at_start_exits_14_after_deadline(engine: Launcher) -> None:
    process = engine.start(preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY)))
    assert process.code() == 14
    assert process.messages("ready") == []


@pytest.mark.holds("CHAINS")
def test_no_transaction_ends_inside_a_chain(engine: Launcher) -> None:
    """Read from outside while it runs, with channel and batch sizes that cut at every position."""
    process = engine.start(
        engine={"tick_interval_ms": 1, "signal_every_n_ticks": 2, "batch_rows": 7, "flush_interval_ms": 5},
        risk_caps={"max_exposure_usd": 5.0, "max_symbol_exposure_usd": 5.0},
        channels={"tick": 3, "signal": 2, "persist": 5},
    )
    process.ready()
    observed: set[int] = set()
    with closing(sqlite3.connect(f"{engine.db.as_uri()}?mode=ro", uri=True, isolation_level=None)) as con:

        def look() -> bool:
            observed.add(check_snapshot(con, 1)["ticks_stored"])
            return len(observed) >= 60

        wait_until(look, "60 different states of the database", PATIENCE_S)
    assert process.stop() == 0
    run = check_finished(engine.db)
    assert run["risk_vetoes"] > 0
    assert run["orders_stored"] > run["trades_stored"]
