"""`hybrid-engine export` beside a running engine, into a pipe, interrupted, and its memory."""

from __future__ import annotations

import csv
import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine.storage.new_file import PREFIX
from hybrid_engine.storage.store import Store
from tests.support import programs
from tests.support.accounting import rows
from tests.support.pipeline import INFO
from tests.support.process import COMMAND, ROOT, Launcher, clean_environment, wait_until
from tests.support.rows import chains, write


def fill(db: Path, ticks: int) -> None:
    store = Store(db)
    store.begin_run(INFO, 1)
    for first in range(1, ticks, 1000):
        write(store, chains(first, 1000, first, first, every=1000))
    store.close()


@pytest.mark.holds("GROWTH")
def test_export_beside_a_running_engine(engine: Launcher) -> None:
    process = engine.start(engine={"tick_interval_ms": 1, "flush_interval_ms": 5})
    process.heartbeat(lambda f: f["ticks_stored"] > 300)
    for table in ("ticks", "orders", "trades", "gaps", "bars"):
        out = engine.folder / f"{table}.csv"
        completed = engine.command("export", "--table", table, "--output", str(out), "--config", str(process.config))
        assert (completed.returncode, completed.stdout) == (0, ""), completed.stderr
        with out.open(newline="") as file:
            names, *lines = csv.reader(file)
        assert completed.stderr == f"hybrid-engine: {out}: {len(lines)} rows\n"
        if table == "bars":
            assert sum(int(line[-1]) for line in lines) > 300
        else:
            found = rows(
                engine.db, f"SELECT {', '.join(names)} FROM {table} WHERE id <= ?", int(lines[-1][0]) if lines else 0
            )
            assert [["" if value is None else str(value) for value in row] for row in found] == lines
    assert process.stop() == 0
    assert process.final()["lock_waits"] == process.final()["dropped"] == 0
    before = sorted(engine.folder.iterdir())
    printed = engine.command("export", "--table", "ticks", "--format", "jsonl", "--db", str(engine.db))
    assert sorted(engine.folder.iterdir()) == before
    assert [json.loads(line)["id"] for line in printed.stdout.splitlines()] == [
        number for (number,) in rows(engine.db, "SELECT id FROM ticks")
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["export"], "the following arguments are required: --table"),
        (["export", "--table", "runs"], "invalid choice: 'runs'"),
        (["export", "--table", "ticks", "--format", "xml"], "invalid choice: 'xml'"),
        (["export", "--table", "ticks", "--from", "noon"], "--from noon: must be a time with its zone"),
        (["export", "--table", "ticks", "--format", "parquet"], "needs a file, --output FILE"),
        (["export", "--table", "ticks", "--output", "/nowhere/x"], "the directory /nowhere does not exist"),
        (["backup"], "the following arguments are required: FILE"),
        (["backup", "/nowhere/x"], "the directory /nowhere does not exist"),
    ],
)
@pytest.mark.holds("G5")
def test_usage_error_exits_12_with_one_line(engine: Launcher, args: list[str], message: str) -> None:
    completed = engine.command(*args, "--db", str(engine.db))
    assert (completed.returncode, completed.stdout, completed.stderr.count("\n")) == (12, "", 1)
    assert message in completed.stderr


def test_reader_of_the_pipe_may_go(engine: Launcher) -> None:
    fill(engine.db, 20_000)
    command = f"set -o pipefail; {' '.join(COMMAND)} export --table ticks --db {engine.db} | head -n 2"
    completed = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=clean_environment(),
        cwd=ROOT,
        check=False,
        timeout=30,
    )
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout.startswith("id,run_id,source,symbol,")


def test_full_stdout_exits_14(engine: Launcher) -> None:
    fill(engine.db, 20_000)
    command = f"{' '.join(COMMAND)} export --table ticks --db {engine.db} > /dev/full"
    completed = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=clean_environment(),
        cwd=ROOT,
        check=False,
        timeout=30,
    )
    assert (completed.returncode, completed.stderr) == (
        14,
        "hybrid-engine: stdout: cannot be written: No space left on device\n",
    )


def test_interrupted_export_leaves_nothing(engine: Launcher) -> None:
    fill(engine.db, 1000)
    before = sorted(path.name for path in engine.folder.iterdir())
    with closing(sqlite3.connect(engine.db, isolation_level=None)) as con:
        con.execute("PRAGMA locking_mode = EXCLUSIVE")
        con.execute("BEGIN EXCLUSIVE")
        con.execute("UPDATE runs SET waiting = 0")
        with programs.start(
            [*COMMAND, "export", "--table", "ticks", "--output", "out.csv", "--db", str(engine.db)],
            stderr=subprocess.PIPE,
            cwd=engine.folder,
            env=clean_environment({"PYTHONPATH": str(ROOT)}),
        ) as process:
            wait_until(lambda: list(engine.folder.glob(f"{PREFIX}*")), "its draft")
            process.send_signal(signal.SIGINT)
            _, message = process.communicate(timeout=30)
        assert (process.returncode, message) == (130, "hybrid-engine: interrupted\n")
        con.execute("ROLLBACK")
    assert sorted(path.name for path in engine.folder.iterdir()) == before


@pytest.mark.holds("GROWTH")
def test_memory_does_not_grow_with_the_table(engine: Launcher) -> None:
    peaks = []
    for ticks in (10_000, 200_000):
        db = engine.folder / f"{ticks}.db"
        fill(db, ticks)
        code = (
            "import resource, sys\nfrom hybrid_engine import cli\n"
            f"try: cli.main(['export', '--table', 'ticks', '--db', {str(db)!r}])\n"
            "except SystemExit as end: assert not end.code\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        )
        completed = subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment({"PYTHONPATH": str(ROOT)}),
            check=True,
            timeout=60,
        )
        peaks.append(int(completed.stderr))
    assert peaks[1] < peaks[0] + 3000, f"peak memory in kB: {peaks}"
