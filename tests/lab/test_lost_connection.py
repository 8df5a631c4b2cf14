"""A run of proofs goes on whatever becomes of its connection and its controller, and is brought home all the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.labs import CHECKOUT, Lab
from tests.lab.proof_runs import EVIDENCE
from tests.support import programs

pytestmark = pytest.mark.lab


def begin(lab: Lab, evidence: Path, *words: str) -> programs.Program:
    """`prove.yml` in the background, once it shows the first progress of its run."""
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(lab.inventory), "playbooks/prove.yml"]
    argv += ["-e", f'{{"proof_names": ["exit12"], "proof_evidence": "{evidence}"}}', *words]
    play = programs.start(
        argv,
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert play.stdout
    shown = ""
    while not re.search(rf"^  {lab.name} \[ *[\d.]+ s\]", line := play.stdout.readline()):
        shown += line
        assert line, shown
    return play


def runs(lab: Lab) -> set[str]:
    return set(lab.root("sh", "-c", f"ls {EVIDENCE} 2>/dev/null", check=False).stdout.split())


def test_run_outlives_its_connection(installed: Lab, tmp_path: Path) -> None:
    """sshd's sessions are killed, over and over for 5 s; then the way is cut for 9 s."""
    play = begin(installed, tmp_path)
    # Bookworm's and trixie's name of a session's process; the brackets keep the pattern from finding itself.
    kill = "pkill -KILL -f '[s]shd(-session)?: operator'"
    installed.root("sh", "-c", f"for _ in 0 1 2 3 4 5 6 7 8 9; do {kill}; sleep 0.5; done")
    link = "$(ip -o link | sed -n 's/^[0-9]*: \\(host[^:@]*\\).*/\\1/p')"
    cut = f"link={link}; ip link set $link down; sleep 9; ip link set $link up"
    installed.root("systemd-run", "--quiet", "sh", "-c", cut)
    output, _ = play.communicate(timeout=240)
    assert play.returncode == 0, output
    assert "connection lost, trying again for 120 s" in output
    assert "connected again after" in output
    assert "exit12: PASS" in output


def test_run_whose_controller_was_killed_is_fetched(installed: Lab, tmp_path: Path) -> None:
    before = runs(installed)
    play = begin(installed, tmp_path / "first")
    play.kill_session()
    play.communicate(timeout=30)
    (run,) = runs(installed) - before
    listed = installed.ansible("fetch.yml").stdout
    assert run in listed
    refused = installed.ansible("fetch.yml", "-e", "run=20200101T000000Z-0000", check=False)
    assert re.search(rf"has a run 20200101T000000Z-0000.*{run}", refused.stdout.replace("\n", " "))
    fetched = installed.ansible("fetch.yml", "-e", f"run={run}", "-e", f"proof_evidence={tmp_path / 'second'}")
    assert "exit12: PASS" in fetched.stdout
    home = tmp_path / "second" / installed.name / run
    assert {"events.jsonl", "statement.json", "BUGLOG.md", "report.html"} <= {path.name for path in home.iterdir()}
    again = installed.ansible(
        "fetch.yml", "-e", f"run={run}", "-e", f"proof_evidence={tmp_path / 'second'}", check=False
    )
    assert again.returncode != 0, "what is there is never overwritten"
