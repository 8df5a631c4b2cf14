"""What a host goes through with the engine: a reboot, a power cut, changes by hand, and the day it is taken off."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.lab.deployment import CONFIG, DROPINS, UNIT, fingerprint, history, live, pid, play
from tests.lab.labs import CHECKOUT, Lab, wait_for
from tests.support.accounting import TERMS

pytestmark = pytest.mark.lab

CHECK = "hybrid-drift-check.service"
DATA = ("/var/lib/hybrid-engine", "/var/lib/hybrid-health-snapshot", "/var/log/hybrid-engine")
# Left by design: what useradd and userdel keep of the former, where Ansible works in its user's home, and what the
# system itself writes while it runs.
LEFT = (
    *("/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock", "/home/operator/.ansible"),
    *("/var/log/journal", "/var/log/wtmp", "/var/log/lastlog", "/var/log/btmp", "/var/cache", "/var/tmp"),
    *("/var/lib/systemd/random-seed", "/var/lib/systemd/timers d ", "/var/lib/systemd/timesync"),
)
_FAILED = "systemctl --failed --plain --no-legend"
RUN = f"find /run/systemd/system* /run/systemd/transient ! -type d; ls -d /run/*hybrid*; {_FAILED}"
PATHS = 'find / -xdev -printf "%p %y %U:%G %m %l\\n"'


def host(lab: Lab) -> set[str]:
    """Every path of the host with its owner and mode; of what is not the distribution's, its contents as well."""
    output = lab.root("sh", "-c", f"{PATHS}; {RUN}", check=False).stdout
    output += fingerprint(lab, "/etc", "/opt", "/usr/local", "/var", "/home", "/root", "/srv")
    return {line for line in output.splitlines() if not any(path in line for path in LEFT)}


_BOOKS = """
import json, sqlite3
con = sqlite3.connect("file:/var/lib/hybrid-engine/hybrid.db?mode=ro", uri=True, timeout=10)
con.row_factory = sqlite3.Row
con.execute("BEGIN")
ticks = {row[0]: row[1:] for row in con.execute("SELECT run_id, COUNT(*), MIN(received_ms) FROM ticks GROUP BY run_id")}
runs = {row["id"]: dict(row) for row in con.execute("SELECT * FROM runs")}
print(json.dumps({"runs": runs, "ticks": ticks, "gaps": [dict(row) for row in con.execute("SELECT * FROM gaps")]}))
"""


class Books:
    """The operator's database as it is now."""

    def __init__(self, lab: Lab) -> None:
        output = json.loads(lab.root("python3", "-c", _BOOKS).stdout)
        self.runs: dict[int, dict[str, Any]] = {int(run): row for run, row in output["runs"].items()}
        self.ticks: dict[int, tuple[int, int]] = {int(run): tuple(each) for run, each in output["ticks"].items()}
        self.gaps: list[dict[str, Any]] = output["gaps"]
        self.last = max(self.runs)

    def balance(self, run: int) -> None:
        row = self.runs[run]
        assert row["received"] == sum(row[term] for term in TERMS)
        assert row["admitted"] - row["ticks_stored"] == 0, "what was admitted is stored"
        assert self.ticks[run][0] == row["ticks_stored"]


def ticking(lab: Lab, run: int) -> Books:
    """The books once this run has ticks, which it must within 10 s of the boot."""
    wait_for(f"ticks of run {run}", lambda: Books(lab).ticks.get(run), 30)
    output = lab.root("systemctl", "show", "--timestamp=unix", "--property=UserspaceTimestamp", "--value").stdout
    books = Books(lab)
    assert books.ticks[run][1] / 1000 <= int(output.strip().removeprefix("@")) + 10
    assert books.last == run
    return books


@pytest.fixture(scope="module")
def before(lab: Lab) -> set[str]:
    return host(lab)


@pytest.fixture(scope="module")
def running(lab: Lab, before: object) -> Lab:
    play(lab, "deploy", engine_drift_check="daily")
    play(lab, "soak", "--tags=install", release_checkout=CHECKOUT)
    wait_for("ticks", lambda: Books(lab).ticks, 30)
    return lab


def test_preflight_accepts_a_ready_host(lab: Lab, before: set[str]) -> None:
    result = play(lab, "preflight")
    assert (result.changes, f"{lab.name} is ready to be deployed to: Debian" in result.text) == ([], True)
    assert host(lab) == before


def test_verify_of_a_host_without_a_deployment_is_one_line(lab: Lab, before: set[str]) -> None:
    result = play(lab, "verify", check=False)
    assert result.rc != 0
    assert "the host cannot be verified: nothing was ever deployed to it" in result.text
    assert "Traceback" not in result.out + result.text
    assert "FAILED tests/verify" not in result.text
    assert host(lab) == before


@pytest.mark.holds("REBOOT")
def test_engine_continues_after_reboot(running: Lab) -> None:
    run = Books(running).last
    running.reboot()
    books = ticking(running, run + 1)
    assert (books.runs[run]["exit_code"], books.runs[run]["waiting"]) == (0, 0)
    books.balance(run)
    assert [gap for gap in books.gaps if gap["kind"] == "crash"] == []
    (gap,) = [gap for gap in books.gaps if (gap["kind"], gap["run_id"]) == ("pause", run)]
    assert (gap["from_ms"], gap["to_ms"]) == (books.runs[run]["ended_ms"], books.runs[run + 1]["started_ms"])
    assert running.root("systemctl", "--failed", "--plain", "--no-legend").stdout == ""
    order = running.root("systemctl", "show", "--property=After", "--value", UNIT).stdout.split()
    assert {"network.target", "local-fs.target", "sysinit.target"} - set(order) <= {"local-fs.target"}


@pytest.mark.holds("REBOOT")
def test_engine_continues_after_power_cut(running: Lab) -> None:
    run = Books(running).last
    running.kill()
    running.boot()
    books = ticking(running, run + 1)
    assert books.runs[run]["exit_code"] is None
    assert books.ticks[run][0] == books.runs[run]["ticks_stored"], "what the counters say is there"
    (gap,) = [gap for gap in books.gaps if gap["kind"] == "crash"]
    assert (gap["run_id"], gap["from_ms"]) == (run, books.runs[run]["ended_ms"])
    assert gap["to_ms"] == books.runs[run + 1]["started_ms"]


@pytest.mark.holds("DRIFT")
def test_drift_names_its_history_line(running: Lab) -> None:
    running.root("systemctl", "start", CHECK)
    copy = ("--working-directory=/home/operator", "/home/operator/old/bin/hybrid-engine", "run", "--db", "/tmp/old.db")
    running.root("sh", "-c", f"cp -rL /opt/hybrid-engine/current /home/operator/old; cp -p {CONFIG} /root/kept")
    running.root("systemd-run", "--quiet", "--unit=old-copy", *copy)
    running.root("sh", "-c", f"echo '# by hand' >> {CONFIG}; printf '[Service]\\nNice=9\\n' > {DROPINS}/90-hand.conf")
    other = "Environment=HYBRID_ENGINE__ENGINE__SIGNAL_EVERY_N_TICKS=7"
    running.root(
        "sh", "-c", f"echo {other} >> {DROPINS}/90-hand.conf; systemctl daemon-reload; systemctl restart {UNIT}"
    )
    assert running.root("systemctl", "start", CHECK, check=False).returncode != 0
    assert running.root("systemctl", "is-failed", CHECK).stdout.strip() == "failed", "it is seen by systemctl --failed"
    result = running.root("journalctl", "--output=cat", f"--unit={CHECK}").stdout
    (line,) = [entry for entry in history(running) if CONFIG in str(entry["changed"])]
    number = history(running).index(line) + 1
    by = f"line {number} of the history: deploy, {line['when'][:19]}Z, by {line['by']}"
    assert re.search(rf"{CONFIG}: sha256 \w+ where \w+ was deployed {re.escape(f'({by})')}", result)
    assert f"unmanaged drop-ins are in force: {DROPINS}/90-hand.conf" in result
    assert re.search(r"the process runs with config_digest \w+ where \w+ was deployed", result)
    assert "of old-copy.service runs the engine beside hybrid-engine.service: /home/operator/old/bin" in result
    verified = play(running, "verify", check=False)
    assert "was deployed ({by})".replace("{by}", by) in verified.text
    assert "FAILED tests/verify/test_unit.py::test_no_second_copy_runs" in verified.text
    running.root("sh", "-c", f"mv /root/kept {CONFIG}; rm -r {DROPINS}/90-hand.conf /home/operator/old")
    running.root("systemctl", "stop", "old-copy")
    running.root("sh", "-c", f"systemctl daemon-reload; systemctl restart {UNIT}")
    running.root("systemctl", "start", CHECK)


def test_history_is_printed_and_exported(running: Lab, tmp_path: Path) -> None:
    result = play(running, "history", out=tmp_path / "history.json")
    assert [line.split()[0] for line in result.out.splitlines() if " deploy" in line and "done" in line] == [
        "1",
        "2",
        "3",
    ]
    output = json.loads((tmp_path / "history.json").read_text())
    assert [{key: value for key, value in line.items() if key != "line"} for line in output[running.name]] == history(
        running
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"engine_data": "absent", "engine_data_of": "another"}, "say so with engine_state=absent and engine_data_of="),
        ({}, "A proof holds it: run held"),
    ],
)
def test_uninstall_needs_confirmation(running: Lab, words: dict[str, str], why: str) -> None:
    held = ("flock", "/run/hybrid-proofs/lock", "sleep", "60")
    if not words:
        running.root("sh", "-c", "mkdir -p /run/hybrid-proofs; echo run held, pid 1 > /run/hybrid-proofs/lock")
        running.root("systemd-run", "--quiet", "--unit=holder", *held)
        wait_for("the lock", lambda: "FLOCK" in running.root("cat", "/proc/locks").stdout)
    process = pid(running)
    result = play(running, "uninstall", check=False, **words)
    running.root("systemctl", "stop", "holder", check=False)
    assert result.rc != 0
    assert why in result.text
    assert (result.changes, pid(running)) == ([], process)


@pytest.mark.holds("UNINSTALL")
def test_uninstall_keeps_data_for_a_reinstall(running: Lab, before: set[str]) -> None:
    running.root("sh", "-c", "rm -rf /run/hybrid-proofs")
    lines, run = len(history(running)), Books(running).last
    # What a check says would go is what goes; twice is once.
    output = play(running, "uninstall", "--check", "--diff")
    gone = play(running, "uninstall", "--diff")
    assert (output.changes, output.rc) == (gone.changes, 0) == (["Remove the engine from the host"], 0)
    assert play(running, "uninstall").changes == []
    after = host(running)
    assert {line for line in after - before if not any(path in line for path in DATA)} == set()
    assert before - after == set()
    assert running.root("find", *DATA, "!", "-user", "root", "-o", "!", "-group", "root").stdout == ""
    assert [entry["what"] for entry in history(running)[lines:]] == ["uninstall"]
    books = Books(running)
    books.balance(run)
    assert (books.last, books.runs[run]["exit_code"]) == (run, 0)
    play(running, "deploy")
    wait_for("ticks", lambda: Books(running).ticks.get(run + 1), 30)
    assert live(running)


@pytest.mark.holds("UNINSTALL")
def test_uninstall_with_data_removes_it(running: Lab, before: set[str]) -> None:
    running.root("sh", "-c", "cd /opt/hybrid-engine; echo kept > notes; mkdir releases/mine")
    result = play(running, "uninstall", engine_data="absent", engine_data_of=running.name)
    assert "/opt/hybrid-engine/notes: not put there by a deployment, so it stays" in result.text
    left = running.root("find", "/opt/hybrid-engine", "-mindepth", "1", "-printf", "%P\\n").stdout
    assert sorted(left.split()) == ["notes", "releases", "releases/mine"]
    running.root("rm", "-r", "/opt/hybrid-engine")
    assert host(running) == before


@pytest.mark.holds("UNINSTALL")
def test_user_of_somebody_else_stays_as_it_was(running: Lab, before: set[str]) -> None:
    words = (
        "--system",
        "--user-group",
        "--comment",
        "Anna's",
        "--shell",
        "/bin/sh",
        "--home-dir",
        "/srv",
        "hybrid-engine",
    )
    running.root("useradd", *words)
    was = running.root("getent", "passwd", "hybrid-engine").stdout
    assert play(running, "deploy").rc == 0
    assert pid(running)
    assert play(running, "deploy").changes == []
    assert running.root("getent", "passwd", "hybrid-engine").stdout == was
    result = play(running, "uninstall", engine_data="absent", engine_data_of=running.name)
    assert "user hybrid-engine: no deployment made it, so it stays" in result.text
    assert running.root("getent", "passwd", "hybrid-engine").stdout == was
    running.root("userdel", "hybrid-engine")
    assert host(running) == before
