"""The health check: constant cost on any database, no files left behind, and the unit's state from systemd."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine import cli, health
from hybrid_engine.config.load import Config, load_config
from hybrid_engine.domain.accounting import AdmissionCounters, FeedState, Gap, StageCounters
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.storage.database import open_reader
from hybrid_engine.storage.store import Store
from tests.support.pipeline import INFO
from tests.support.rows import chains

UNIT = "some.service"


def grown(db: Path, ticks: int, runs: int) -> None:
    """A healthy database with `runs` earlier runs, and `ticks` ticks, gaps and orders in the last one."""
    store, now = Store(db), now_ms()
    for _ in range(runs):
        store.begin_run(INFO, now)
        store.end_run(0, now)
    store.begin_run(INFO, now)
    gaps = [Gap(n + 1, "dropped", "s", "X", now, now, 1) for n in range(ticks)]
    feed = FeedState(last_frame_ms=now)
    store.write(
        chains(1, ticks, now, now), AdmissionCounters(received=ticks, admitted=ticks), StageCounters(), feed, gaps
    )
    store.close()


def of(db: Path) -> Config:
    return load_config(None, {"app.db_path": str(db)})


@pytest.mark.holds("GROWTH")
@pytest.mark.parametrize("at_rest", [True, False], ids=["at rest", "while it is written"])
def test_health_cost_is_constant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_rest: bool) -> None:
    """Counts SQLite's instructions and statements instead of the time, which varies on a busy machine."""
    events = []
    for ticks, runs in ((10, 1), (20_000, 1_000)):
        db = tmp_path / f"{ticks}.db"
        grown(db, ticks, runs)
        used = None if at_rest else Store(db)  # with a -wal beside it
        steps, statements = list[None](), list[str]()

        def opened(
            path: Path, *, passive: bool, steps: list[None] = steps, statements: list[str] = statements
        ) -> sqlite3.Connection:
            con = open_reader(path, passive=passive)
            con.set_progress_handler(lambda: steps.append(None), 1)
            con.set_trace_callback(statements.append)
            return con

        monkeypatch.setattr(health, "open_reader", opened)
        result = health.check_health(of(db))
        assert result.healthy, result
        assert result.run is not None
        assert (result.run["id"], result.run["admitted"]) == (runs + 1, ticks)
        events.append((len(steps), statements))
        if used:
            used.close()
    (few, statements), (many, statements_again) = events
    assert statements == statements_again
    assert len(statements) == 2
    assert 0 < many <= few + 20, events


def test_health_creates_no_files(tmp_path: Path) -> None:
    """The caller may lack write access, or be root, whose files the engine could not open."""
    folder = tmp_path / "state"
    folder.mkdir()
    grown(folder / "hybrid.db", 10, 0)
    assert [path.name for path in folder.iterdir()] == ["hybrid.db"]
    folder.chmod(0o500)
    created = list[str]()
    with closing(open_reader(folder / "hybrid.db", passive=True)) as con:
        con.execute("SELECT * FROM runs").fetchall()
        created += [path.name for path in folder.iterdir()]
    folder.chmod(0o700)
    assert created == ["hybrid.db"]
    assert health.check_health(of(folder / "hybrid.db")).healthy


def test_health_reads_write_ahead_log(tmp_path: Path) -> None:
    store = Store(tmp_path / "hybrid.db")
    store.begin_run(INFO, now_ms())
    for total in (1, 2):
        feed = FeedState(last_frame_ms=now_ms())
        batch = chains(total, 1, now_ms(), now_ms())
        store.write(batch, AdmissionCounters(received=total, admitted=total), StageCounters(), feed, ())
        run = health.check_health(of(tmp_path / "hybrid.db")).run
        assert run is not None
        assert run["received"] == total
    store.close()


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Create a systemctl with this behaviour that records its arguments."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def make(does: str) -> Path:
        script = tmp_path / "systemctl"
        script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n{does}\n')
        script.chmod(0o755)
        return tmp_path / "called"

    return make


@pytest.mark.parametrize(
    ("active", "sub", "ok"),
    [
        ("active", "running", True),
        ("reloading", "reload", True),
        ("activating", "auto-restart", False),
        ("failed", "failed", False),
        ("inactive", "dead", False),
        ("deactivating", "stop-sigterm", False),
    ],
)
def test_unit_must_be_active(systemctl: Callable[[str], Path], active: str, sub: str, ok: bool) -> None:
    called = systemctl(f"echo ActiveState={active}; echo SubState={sub}")
    assert health.check_unit(UNIT) == ("unit", ok, f"{UNIT}: {active} ({sub})")
    assert called.read_text() == f"show --property=ActiveState,SubState -- {UNIT}\n"


def test_unanswering_systemd_is_not_active(systemctl: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl("echo 'Failed to connect to bus: No such file or directory' >&2; exit 1")
    check = health.check_unit(UNIT)
    assert not check.ok
    assert "systemctl does not say: Failed to connect to bus" in check.detail
    systemctl("exec sleep 60")
    monkeypatch.setattr(health, "SYSTEMCTL_S", 0.1)
    assert not health.check_unit(UNIT).ok
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not health.check_unit(UNIT).ok


def test_healthy_only_with_active_unit(tmp_path: Path, systemctl: Callable[[str], Path]) -> None:
    grown(tmp_path / "hybrid.db", 1, 0)
    systemctl("echo ActiveState=inactive")
    assert health.check_health(of(tmp_path / "hybrid.db")).healthy
    result = health.check_health(of(tmp_path / "hybrid.db"), UNIT)
    assert [check.name for check in result.checks if not check.ok] == ["unit"]
    answer = json.loads(json.dumps(result.as_json()))
    assert set(answer) == {"healthy", "checks", "run"}
    assert answer["healthy"] is False
    names = [check["name"] for check in answer["checks"]]
    assert names == ["unit", "database", "running", "durability", "books", "frames", "symbols"]


@pytest.mark.parametrize(
    ("words", "unit"),
    [
        ((), "hybrid-engine.service"),
        (("--unit", "other.service"), "other.service"),
        (("--unit", ""), None),
        (("--config", "FILE"), None),  # an engine that runs somewhere, without a unit
        (("--config", "FILE", "--unit", "other.service"), "other.service"),
    ],
)
def test_command_checks_deployed_unit_by_default(
    words: tuple[str, ...],
    unit: str | None,
    tmp_path: Path,
    systemctl: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grown(tmp_path / "hybrid.db", 1, 0)
    (tmp_path / "config.toml").write_text(f"[app]\ndb_path = {json.dumps(str(tmp_path / 'hybrid.db'))}\n")
    monkeypatch.setattr("hybrid_engine.config.load.DEFAULT_PATH", tmp_path / "config.toml")
    monkeypatch.setattr(cli, "SYSTEMD", tmp_path)
    systemctl("echo ActiveState=active; echo SubState=running")
    with pytest.raises(SystemExit) as end:
        cli.main(["health", "--json", *(str(tmp_path / "config.toml") if word == "FILE" else word for word in words)])
    assert end.value.code == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [check["detail"] for check in checks if check["name"] == "unit"] == (
        [f"{unit}: active (running)"] if unit else []
    )


def test_no_systemctl_without_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grown(tmp_path / "hybrid.db", 1, 0)
    (tmp_path / "config.toml").write_text(f"[app]\ndb_path = {json.dumps(str(tmp_path / 'hybrid.db'))}\n")
    monkeypatch.setattr("hybrid_engine.config.load.DEFAULT_PATH", tmp_path / "config.toml")
    monkeypatch.setattr(cli, "SYSTEMD", tmp_path / "nothing")
    with pytest.raises(SystemExit) as end:
        cli.main(["health"])
    assert (end.value.code, "unit" in capsys.readouterr().out) == (0, False)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_what_is_no_file_is_unhealthy_at_once(tmp_path: Path, suffix: str) -> None:
    """Opening a FIFO would wait for its writer."""
    db = tmp_path / "hybrid.db"
    grown(db, 1, 1)
    place = Path(f"{db}{suffix}")
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    (check,) = health.check_health(of(db)).checks
    assert (check.name, check.ok) == ("database", False)
    assert check.detail.endswith(f"{place} is no file, and was not opened")


@pytest.mark.holds("RECORDER")
def test_group_may_read_the_database_whatever_the_umask_is(tmp_path: Path) -> None:
    """The flight recorder, which is another user of the engine's group."""
    db = tmp_path / "hybrid.db"
    before = os.umask(0o077)
    try:
        used = Store(db)
        used.begin_run(INFO, now_ms())
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        used.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("hybrid.db", "hybrid.db-wal", "hybrid.db-shm"), 0o640)


def test_kernel_without_controls_is_told_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = tmp_path / "h.db"
    monkeypatch.setattr(health, "missing_controls", lambda: ["no pressure is known: boot with psi=1"])
    grown(db, 1, 1)
    (check,) = [check for check in health.check_health(of(db)).checks if check.name == "kernel"]
    assert (check.ok, check.detail) == (True, "no pressure is known: boot with psi=1")
