"""`hybrid-engine backup` beside a running engine, as another user, interrupted, and on a full disk."""

from __future__ import annotations

import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine.storage.new_file import PREFIX
from tests.support import programs
from tests.support.accounting import check_chains, check_finished, rows
from tests.support.process import COMMAND, ROOT, Launcher, clean_environment, wait_until


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start(engine: Launcher, *args: str, preexec: Callable[[], None] | None = None) -> programs.Program:
    return programs.start(
        [*COMMAND, *args, "--db", str(engine.db)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=engine.folder,
        env=clean_environment({"PYTHONPATH": str(ROOT)}),
        preexec_fn=preexec,
    )


@pytest.mark.holds("GROWTH")
def test_backup_beside_a_running_engine(engine: Launcher) -> None:
    process = engine.start(engine={"tick_interval_ms": 1, "flush_interval_ms": 5})
    process.heartbeat(lambda f: f["ticks_stored"] > 200)
    copy = engine.folder / "copy.db"
    completed = engine.command("backup", str(copy), "--config", str(process.config))
    assert (completed.returncode, completed.stdout) == (0, "")
    assert completed.stderr.startswith(f"hybrid-engine: {copy}: a copy of {engine.db}, ")
    with closing(sqlite3.connect(copy)) as con:
        assert check_chains(con) == []
        assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    ((ticks,),) = rows(copy, "SELECT max(id) FROM ticks")
    assert ticks > 200
    process.heartbeat(lambda f: f["ticks_stored"] > ticks)
    refused = engine.command("backup", str(copy), "--config", str(process.config))
    assert refused.returncode == 12
    assert "is there already, and is not overwritten" in refused.stderr
    assert process.stop() == 0
    assert process.final()["lock_waits"] == process.final()["dropped"] == 0
    check_finished(engine.db)
    assert len(rows(engine.db, "SELECT id FROM ticks WHERE id <= ?", ticks)) == ticks


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_backup_leaves_nothing(engine: Launcher, number: int) -> None:
    engine.start("--seconds", "0.2").code()
    with closing(sqlite3.connect(engine.db, isolation_level=None)) as con:
        con.execute("PRAGMA locking_mode = EXCLUSIVE")
        con.execute("BEGIN EXCLUSIVE")
        con.execute("UPDATE runs SET waiting = 0")
        with start(engine, "backup", "copy.db") as process:
            wait_until(lambda: [name for name in names(engine.folder) if name.startswith(PREFIX)], "its draft")
            process.send_signal(number)
            _, message = process.communicate(timeout=30)
        assert (process.returncode, message) == (128 + number, "hybrid-engine: interrupted\n")
    assert [name for name in names(engine.folder) if name.startswith(PREFIX) or name == "copy.db"] == []


def test_backup_to_a_full_disk_exits_14_and_leaves_nothing(engine: Launcher) -> None:
    engine.start("--seconds", "0.2").code()
    before = names(engine.folder)
    limit = (8192, resource.RLIM_INFINITY)
    with start(
        engine, "backup", "copy.db", preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    ) as process:
        _, message = process.communicate(timeout=30)
    assert process.returncode == 14
    assert message.startswith(f"hybrid-engine: copying {engine.db} to copy.db: ")
    assert message.count("\n") == 1
    assert names(engine.folder) == before


def as_another_user(engine: Launcher, copy: Path) -> tuple[int, str]:
    """The exit code of a backup to `copy` by a user who may only read, and its message up to the size of the copy."""
    for path in engine.folder.glob("hybrid.db*"):
        path.chmod(0o644)
    completed = subprocess.run(
        [sys.executable, "-m", "hybrid_engine", "backup", str(copy), "--db", str(engine.db)],
        capture_output=True,
        text=True,
        user=65534,
        group=65534,
        extra_groups=[],
        cwd=copy.parent,
        env=clean_environment({"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}),
        timeout=30,
        check=False,
    )
    if "No module named" in completed.stderr:
        pytest.skip("another user may not read this checkout")
    assert completed.stderr.count("\n") == 1, completed.stderr
    return completed.returncode, re.sub(r"\d+\.\d MB, checked\n", "", completed.stderr)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Others may enter it. pytest's own is root's alone, and made so again whenever another pytest begins."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.holds("GROWTH")
def test_another_user_reads_at_rest_and_beside_the_engine(open_folder: Path) -> None:
    """One who may read the database, and may not write where it is."""
    state, home = open_folder / "state", open_folder / "home"
    state.mkdir(mode=0o755)
    home.mkdir()
    os.chown(home, 65534, 65534)
    engine = Launcher(state)
    try:
        engine.start("--seconds", "0.5").code()
        before = names(state)
        assert as_another_user(engine, home / "1.db") == (0, f"hybrid-engine: {home}/1.db: a copy of {engine.db}, ")
        assert names(state) == before
        process = engine.start()
        process.heartbeat(lambda f: f["ticks_stored"] > 0)
        assert as_another_user(engine, home / "2.db") == (0, f"hybrid-engine: {home}/2.db: a copy of {engine.db}, ")
        assert process.stop() == 0
        for copy in home.iterdir():
            assert rows(copy, "SELECT max(id) > 0 FROM ticks") == [(1,)]
        (state / "hybrid.db-wal").write_bytes(b"a log of which the index was deleted")
        before = names(state)
        code, message = as_another_user(engine, home / "3.db")
        assert (code, names(state), (home / "3.db").exists()) == (14, before, False)
        assert "hybrid.db-wal has no index beside it, and to make one takes the right to write there" in message
    finally:
        engine.close()
