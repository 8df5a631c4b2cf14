"""In SHADOW the engine opens no socket of any family, resolves no name and starts no program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.accounting import check_finished
from tests.support.process import ROOT, clean_environment

# An audit hook sees the calls of every thread, also those whose failure is swallowed.
_PROGRAM = """
import sys
CALLS = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "ctypes.", "pty.")
def watch(name, arguments):
    if name.startswith(CALLS):
        print("called", name, flush=True)
sys.addaudithook(watch)
from hybrid_engine import cli
try:
    cli.main(["run", "--config", sys.argv[1], "--db", sys.argv[2], "--seconds", "1"])
except SystemExit as end:
    print("ended", end.code, flush=True)
import socket
socket.socket().close()
"""
_CONFIG = """
mode = "SHADOW"
[engine]
ingest_mode = "SYNTHETIC"
tick_interval_ms = 5
signal_every_n_ticks = 1
"""


@pytest.mark.holds("S9", "I1")
def test_shadow_calls_nobody(tmp_path: Path) -> None:
    config, db = tmp_path / "config.toml", tmp_path / "x.db"
    config.write_text(_CONFIG)
    argv = [sys.executable, "-c", _PROGRAM, str(config), str(db)]
    result = subprocess.run(
        argv, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    output = [line for line in result.stdout.splitlines() if line.startswith(("called ", "ended "))]
    assert output == ["ended 0", "called socket.__new__"], result.stdout + result.stderr  # what would be seen is seen
    run = check_finished(db)
    assert run["trades_stored"] == run["ticks_stored"] > 10
