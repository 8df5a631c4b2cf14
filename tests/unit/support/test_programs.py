"""Programs that tests start have default signal dispositions, and are killed when the test fails."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.process import ROOT, clean_environment

CHILD = "import signal; print(*(signal.getsignal(n) for n in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)))"
PARENT = f"""
import os, signal, subprocess, sys
from tests.support import programs
programs.stop_inheritance_of_ignored_signals()
os.kill(os.getpid(), signal.SIGHUP)  # still ignored here
with programs.start([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE) as child:
    print(child.stdout.read())
"""


def test_ignored_signals_are_not_inherited() -> None:
    ignoring = ["sh", "-c", 'trap "" INT HUP TERM; exec "$@"', "sh", sys.executable, "-c", PARENT]
    environment = clean_environment({"PYTHONPATH": str(ROOT)})
    done = subprocess.run(ignoring, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "SIG_IGN" not in done.stdout
    assert "default_int_handler" in done.stdout


def state(pid: int) -> str:
    """The letter of /proc/PID/stat; "" when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except FileNotFoundError:
        return ""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_failed_block_kills_the_program_and_its_children() -> None:
    start, children = time.monotonic(), []
    program = programs.start(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE)

    def fail() -> None:
        with program:
            assert program.stdout
            children.append(int(program.stdout.readline()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    deadline = time.monotonic() + 10
    while state(*children) not in ("", "Z"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert program.returncode == -9
    assert time.monotonic() - start < 30


def test_no_test_starts_a_program_in_another_way() -> None:
    """`subprocess.run` is none of them: it kills its program when it is left before the end."""
    other = re.compile(r"\bPopen\(|\bpty\.fork\(|\bos\.(fork|posix_spawnp?)\(")
    paths = [path for path in (ROOT / "tests").rglob("*.py") if "benchmarks" not in path.parts]
    users = {str(path.relative_to(ROOT)) for path in paths if other.search(path.read_text())}
    # The demo is started at a terminal, a session of its own; the exchange under test has pipes of bytes. Their
    # fixtures kill both.
    exceptions = {"tests/process/test_demo.py", "tests/unit/proofs/mock_exchange/test_control.py"}
    assert users - {"tests/unit/support/test_programs.py"} == exceptions
