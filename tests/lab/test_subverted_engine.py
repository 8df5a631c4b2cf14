"""A subverted engine: what it plants in the place of its own files leads root nowhere, and holds up no tool.

Its user puts links, FIFOs, sockets and directories where its database, its log and the flight recorder's records are.
Each tool of root's then says so in a line, in time; and nothing outside is opened, which inotify watches.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.deployment import UNIT, fingerprint, play
from tests.lab.labs import Lab, Result, wait_for
from tests.lab.proof_runs import PROGRAM, events

pytestmark = pytest.mark.lab
STATE = "/var/lib/hybrid-engine"
RECORDS = "/var/lib/hybrid-health-snapshot"
RECORDER = "hybrid-health-snapshot"
OUTSIDE = "/root/outside"
SECRET = "SECRET-OF-ROOT"
AT_ONCE_S = 40.0  # no tool that reads may take longer, on a busy machine; an opened FIFO would hold it for ever
PLANTS = {
    "link": f"ln -s {OUTSIDE}/secret",
    "link to a folder": f"ln -s {OUTSIDE}",
    "fifo": "mkfifo",
    "folder": "mkdir",
    "socket": "python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])'",
}
# Prints each opening, change or removal of the files outside, by inotify(7).
WATCH = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init()
for path in sys.argv[1:]:
    assert libc.inotify_add_watch(fd, path.encode(), 0x02 | 0x04 | 0x20 | 0x100 | 0x200 | 0x400) >= 0, path
print("watching", flush=True)
while data := os.read(fd, 4096):
    while data:
        _, mask, _, size = struct.unpack_from("iIII", data)
        print(f"touched {mask:#x} {data[16:16 + size].rstrip(bytes(1)).decode()}", flush=True)
        data = data[16 + size:]
"""


@pytest.fixture(scope="module")
def host(lab: Lab) -> Lab:
    """A deployed host with the proofs and the timer that looks for drift, and files of root's that are watched."""
    play(lab, "deploy", engine_drift_check="daily")
    lab.ansible("prove.yml", "--tags=install")
    script = f"mkdir -m 700 {OUTSIDE}; echo {SECRET} > {OUTSIDE}/secret; chmod 600 {OUTSIDE}/secret"
    lab.root("sh", "-c", script)
    lab.root(
        "systemd-run",
        "--quiet",
        "--unit=watch",
        "--description=watch",
        "python3",
        "-c",
        WATCH,
        OUTSIDE,
        f"{OUTSIDE}/secret",
    )
    wait_for("the watch", lambda: "watching" in watched(lab))
    lab.root("cat", f"{OUTSIDE}/secret")
    wait_for("a first opening", lambda: "\ntouched 0x" in watched(lab))
    return lab


def watched(lab: Lab) -> str:
    lab.root("journalctl", "--sync")
    return lab.root("journalctl", "--unit=watch", "--output=cat", "--no-pager").stdout


@contextmanager
def untouched(lab: Lab) -> Iterator[None]:
    """Nothing outside was opened, changed, or had its owner or mode changed meanwhile."""
    before, seen = _outside(lab), watched(lab).count("\ntouched 0x")
    yield
    assert watched(lab).count("\ntouched 0x") == seen, watched(lab)
    assert _outside(lab) == before


def _outside(lab: Lab) -> str:
    # stat opens nothing, so that it is not what the watch sees.
    about = lab.root("stat", "-c", "%n %s %Y %Z %a %u:%g", OUTSIDE, f"{OUTSIDE}/secret").stdout
    return about + fingerprint(lab, "/etc/passwd", "/etc/shadow")


def as_owner(lab: Lab, folder: str, script: str) -> None:
    """Run a shell text as the user who owns a directory, in it."""
    owner, group = lab.root("stat", "-c", "%u %g", folder).stdout.split()
    words = ("setpriv", f"--reuid={owner}", f"--regid={group}", "--clear-groups", "--no-new-privs")
    lab.root(*words, "sh", "-c", f"cd {folder} && {script}")


@pytest.fixture
def state(host: Lab) -> Iterator[Lab]:
    """The engine's own files aside, while it runs on with those that it has open; put back in the end."""
    as_owner(host, STATE, "mkdir aside && mv hybrid.db* aside/")
    yield host
    host.root("systemctl", "stop", UNIT)
    host.root("sh", "-c", f"cd {STATE} && rm -rf hybrid.db* more && mv aside/* . && rmdir aside")
    host.root("systemctl", "reset-failed", UNIT, check=False)
    host.root("systemctl", "start", UNIT)


def plant(lab: Lab, kind: str, *names: str, folder: str = STATE) -> None:
    as_owner(lab, folder, "; ".join(f"{PLANTS[kind]} {name}" for name in names))


def in_time(lab: Lab, *argv: str) -> Result:
    """What a tool of root's says; it ends by itself, without a traceback and without the secret."""
    began = time.monotonic()
    result = lab.root(*argv, check=False, timeout=AT_ONCE_S + 20)
    assert time.monotonic() - began < AT_ONCE_S, argv
    said(result.stdout + result.stderr)
    return result


def said(text: str) -> None:
    assert "Traceback" not in text, text
    assert SECRET not in text


def last_record(lab: Lab) -> dict[str, object]:
    record: dict[str, object] = json.loads(in_time(lab, f"/usr/local/libexec/{RECORDER}", "--show", "1").stdout)
    return record


@pytest.mark.holds("RESTORED")
@pytest.mark.parametrize("kind", PLANTS)
def test_planted_database_is_named_and_not_opened(state: Lab, kind: str) -> None:
    plant(state, kind, "hybrid.db", "hybrid.db-wal", "hybrid.db-shm")
    with untouched(state):
        in_time(state, "systemctl", "start", f"{RECORDER}.service")
        health = last_record(state)["health"]
        assert isinstance(health, dict)
        assert health["healthy"] is not True
        assert "hybrid.db" in str(health), health
        in_time(state, "systemctl", "start", "hybrid-drift-check.service")
        journal = in_time(state, "journalctl", "--unit=hybrid-drift-check", "-n", "5", "-o", "cat").stdout
        assert '"note": "as deployed"' in journal, journal


@pytest.mark.holds("RECORDER")
@pytest.mark.parametrize("kind", PLANTS)
def test_planted_record_is_named_and_not_opened(host: Lab, kind: str) -> None:
    day = f"{host.root('date', '-u', '+%F').stdout.strip()}.jsonl"
    host.root(
        "systemctl", "stop", f"{RECORDER}.timer", f"{RECORDER}.service"
    )  # one that runs would write the file anew
    as_owner(host, RECORDS, f"mv {day} aside")
    try:
        plant(host, kind, day, "2020-01-01.jsonl", folder=RECORDS)
        with untouched(host):
            shown = in_time(host, f"/usr/local/libexec/{RECORDER}", "--show", "12")
            assert (shown.returncode, len(shown.stderr.splitlines())) == (0, 2)
            assert "where a file belongs, left out" in shown.stderr
            assert in_time(host, "systemctl", "start", f"{RECORDER}.service").returncode != 0
            journal = in_time(host, "journalctl", f"--unit={RECORDER}", "-n", "20", "-o", "cat").stdout
            assert f"{RECORDS}/{day}: is a" in journal
    finally:
        host.root("sh", "-c", f"cd {RECORDS} && rm -rf {day} 2020-01-01.jsonl && mv aside {day}")
        host.root("systemctl", "reset-failed", RECORDER, check=False)
        host.root("systemctl", "start", f"{RECORDER}.timer")


@pytest.mark.holds("UNINSTALL")
def test_playbooks_end_in_time_and_touch_nothing_outside(state: Lab, tmp_path: Path) -> None:
    """diagnose, verify and an uninstall that only says what it would do, on a host with one plant of each kind."""
    plant(state, "fifo", "hybrid.db")
    plant(state, "link", "hybrid.db-wal", "more")
    plant(state, "folder", "hybrid.db-shm")
    plant(state, "link to a folder", "hybrid.db-journal")
    with untouched(state):
        diagnosed = play(state, "diagnose", flight_recorder_evidence=tmp_path)
        (report,) = tmp_path.rglob("diagnosis-*.txt")
        said(report.read_text())
        assert "hybrid.db is no file, and was not opened" in report.read_text()
        said(diagnosed.out)
        verified = play(state, "verify", check=False)
        assert verified.rc != 0
        assert "is no file, and was not opened" in verified.text
        said(verified.out)
        removed = play(state, "uninstall", "--check", "--diff")
        assert f"{STATE} (given to root)" in removed.text
        said(removed.out)
        assert state.root("test", "-e", f"/etc/systemd/system/{UNIT}").returncode == 0


@pytest.mark.holds("RESTORED")
def test_proof_of_a_full_disk_writes_through_no_link(host: Lab) -> None:
    """The engine's user plants in its scratch directory what the proof is about to write."""
    script = (
        "while sleep 0.02; do for d in /run/hybrid-proofs/*/storage/unit/state; do"
        f" [ -d $d ] && cd $d && ln -s {OUTSIDE}/secret ballast; done; done 2>/dev/null"
    )
    owner = host.root("stat", "-c", "--uid=%u", STATE).stdout.strip()
    host.root("systemd-run", "--quiet", "--unit=planter", owner, "sh", "-c", script)
    run = "subverted"
    try:
        with untouched(host):
            words = (PROGRAM, "run", "storage", "--run", run)
            result = host.root(*words, check=False, timeout=180)
            said(result.stdout + result.stderr)
            (verdict,) = (event["data"] for event in events(host, run) if event["kind"] == "verdict")
            assert verdict["verdict"] == "ERROR", verdict["reason"]
            reasons = [case["reason"] for case in verdict["cases"]]
            why = "/ballast is a link where a file belongs, and was not opened"
            assert [reason for reason in reasons if reason.endswith(why)], verdict
            assert verdict["restored"] is True
    finally:
        host.root("systemctl", "stop", "planter")
    assert host.root("cat", f"{OUTSIDE}/secret").stdout.strip() == SECRET


@pytest.mark.holds("RESTORED")
def test_proof_on_a_planted_database_ends_and_is_undone(state: Lab) -> None:
    """The operator's engine cannot start on what it planted, which the run says; it hangs nowhere."""
    plant(state, "fifo", "hybrid.db", "hybrid.db-shm")
    plant(state, "link", "hybrid.db-wal")
    run = "planted"
    with untouched(state):
        result = state.root(PROGRAM, "run", "parse", "--run", run, check=False, timeout=240)
        said(result.stdout + result.stderr)
        left = state.root("sh", "-c", "ls /run/hybrid-proofs | grep -v lock", check=False).stdout
        assert left == ""
