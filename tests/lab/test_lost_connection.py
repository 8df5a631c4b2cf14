"""A run of proofs goes on whatever becomes of its connection and its controller, and is brought home all the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.lab.labs import CHECKOUT, Lab, MakeLab, wait_for
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


def verdicts(evidence: Path, lab: Lab) -> list[str]:
    """Of the runs of a host that were brought home."""
    paths = sorted((evidence / lab.name).glob("*/statement.json"))
    return [proof["verdict"] for path in paths for proof in json.loads(path.read_text())["predicate"]["proofs"]]


def runs(lab: Lab) -> set[str]:
    return set(lab.root("sh", "-c", f"ls {EVIDENCE} 2>/dev/null", check=False).stdout.split())


@pytest.fixture(scope="module")
def pair(installed: Lab, make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Lab]]:
    """It and another host, each with an inventory of both."""
    other = make_lab(proofs=True)
    both = tmp_path_factory.mktemp("both") / "hosts.yml"
    hosts = [yaml.safe_load(lab.inventory.read_text())["nuc"]["hosts"] for lab in (installed, other)]
    both.write_text(yaml.safe_dump({"nuc": {"hosts": hosts[0] | hosts[1]}}))
    yield replace(installed, inventory=both), replace(other, inventory=both)
    other.down()


def kill_sessions(lab: Lab) -> None:
    """Kill sshd's sessions, over and over for 5 s."""
    # Bookworm's and trixie's name of a session's process; the brackets keep the pattern from finding itself.
    kill = "pkill -KILL -f '[s]shd(-session)?: operator'"
    lab.root("sh", "-c", f"for _ in 0 1 2 3 4 5 6 7 8 9; do {kill}; sleep 0.5; done")


def test_run_outlives_its_connection(installed: Lab, tmp_path: Path) -> None:
    """sshd's sessions are killed, over and over for 5 s; then the way is cut for 9 s."""
    play = begin(installed, tmp_path)
    kill_sessions(installed)
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


def test_of_two_hosts_one_loses_its_connection(pair: tuple[Lab, Lab], tmp_path: Path) -> None:
    one, other = pair
    play = begin(one, tmp_path)
    kill_sessions(one)
    output, _ = play.communicate(timeout=240)
    assert play.returncode == 0, output
    assert f"{one.name}: connection lost, trying again for 120 s" in output
    assert f"{other.name}: connection lost" not in output
    assert [verdicts(tmp_path, lab) for lab in pair] == [["PASS"], ["PASS"]]


def test_of_two_hosts_one_is_away_for_longer_than_is_waited(pair: tuple[Lab, Lab], tmp_path: Path) -> None:
    """The other's evidence comes home, and its own later: the run went on."""
    one = pair[0]
    before = runs(one)
    play = begin(one, tmp_path, "-e", "proof_lost_s=3")
    # The run ends within that time; who connects meanwhile is refused.
    one.root("systemd-run", "--quiet", "sh", "-c", "touch /etc/nologin; sleep 30; rm /etc/nologin")
    kill_sessions(one)
    output, _ = play.communicate(timeout=240)
    assert play.returncode != 0, output
    (run,) = runs(one) - before
    assert f"lost sight of run {run}" in " ".join(output.split())
    assert [verdicts(tmp_path, lab) for lab in pair] == [[], ["PASS"]]
    wait_for("the way", lambda: one.root("test", "-e", "/etc/nologin", check=False).returncode != 0, 60)
    one.ansible("fetch.yml", f"--limit={one.name}", "-e", f"run={run}", "-e", f"proof_evidence={tmp_path}")
    assert [verdicts(tmp_path, lab) for lab in pair] == [["PASS"], ["PASS"]]


def test_twins_of_one_image_are_told_of(pair: tuple[Lab, Lab]) -> None:
    one, other = pair
    was = other.root("cat", "/etc/machine-id").stdout
    other.root("sh", "-c", 'printf %s "$1" > /etc/machine-id', "sh", one.root("cat", "/etc/machine-id").stdout)
    try:
        shown = one.ansible("preflight.yml").stdout
    finally:
        other.root("sh", "-c", 'printf %s "$1" > /etc/machine-id', "sh", was)
    assert " ".join(shown.split()).count("1 other host(s) of this inventory have its /etc/machine-id") == 2
    assert "other host(s) of this inventory" not in " ".join(one.ansible("preflight.yml").stdout.split())
