"""What the tests of the proofs share: a host as it is, and runs that are begun, watched and killed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from proofs.evidence import recorder
from tests.lab.deployment import FINGERPRINT, UNIT
from tests.lab.labs import Lab, wait_for

PROGRAM = "/opt/hybrid-proofs/current/bin/hybrid-proofs"
EVIDENCE = "/var/lib/hybrid-proofs"
# Begin a run, wait until its recording has so many events, and strike. All inside the host: a command over there is
# quicker than the road to it.
_STRIKE = """
import subprocess, sys, time
program, name, run, events, text, how, *flags = sys.argv[1:]
subprocess.run([program, "run", name, "--run", run, "--no-wait", *flags], check=True, stdout=subprocess.DEVNULL)
unit, path, seen, last = f"hybrid-proof-{run}.service", f"/var/lib/hybrid-proofs/{run}/events.jsonl", 0, b""
deadline = time.monotonic() + 90
while seen < int(events) and time.monotonic() < deadline:
    try:
        last = open(path, "rb").read()
    except FileNotFoundError:
        pass
    seen = last.count(text.encode())
    time.sleep(0.02)
subprocess.run(["systemctl", "kill", "--kill-whom=main", f"--signal={how}", unit], check=True)
print(seen)
"""


def install(lab: Lab) -> None:
    """Engine and proofs on the host, as a playbook puts them there, without a proof being run."""
    lab.ansible("deploy.yml")
    lab.ansible("prove.yml", "--tags=install")


# Everything that a proof has to leave as it found it, and how it is asked for.
_LOOKS = {
    "cat": f"systemctl cat {UNIT}",
    "etc": f"set /etc; {FINGERPRINT}",
    "release": f"set /opt; {FINGERPRINT}",
    "run": "find /run/systemd/system* /run/systemd/transient ! -type d",
    "active": f"systemctl is-active {UNIT}",
    # without the flight recorder's service, which runs for a moment every 5 minutes; meanwhile its timer is "running"
    # instead of "waiting"
    "units": "systemctl list-units --all --plain --no-legend 'hybrid*' 'proof*'"
    " | awk '{ print $1, $2, $3, $1 ~ /[.]timer$/ ? \"\" : $4 }' | grep -v ^hybrid-health-snapshot.service",
    "scratch": "ls /run/hybrid-proofs 2>/dev/null | grep -v lock",
    "exchanges": "pgrep -f '[m]ock_exchange'",
    "mounts": "grep hybrid-proof /proc/self/mountinfo",
    "failed": "systemctl --failed --plain --no-legend",
}


def picture(lab: Lab) -> dict[str, str]:
    """The host as it is now, in one look."""
    script = "; ".join(f"printf '\\036'; {look}" for look in _LOOKS.values())
    output = lab.root("sh", "-c", script, check=False).stdout.split("\x1e")[1:]
    return dict(zip(_LOOKS, output, strict=True))


def wait_until_as(lab: Lab, before: dict[str, str], deadline_s: float = 30) -> None:
    """Wait until the host is as `before`; AssertionError that tells what is not."""
    end = time.monotonic() + deadline_s
    while (now := picture(lab)) != before and time.monotonic() < end:
        time.sleep(0.5)
    assert now == before


def strike(lab: Lab, name: str, run: str, events: int, how: str = "KILL", *flags: str, text: str = "\n") -> int:
    """Begin `run`, send its main process a signal after so many events, and wait until nothing of it is left.

    text: what is counted in the recording, else its lines.
    """
    words = (PROGRAM, name, run, str(events), text, how, *flags)
    seen = int(lab.root("python3", "-c", _STRIKE, *words, timeout=180).stdout)
    left = (
        f"systemctl list-units --all --plain --no-legend 'hybrid-proof-*'; ls -d /run/hybrid-proofs/{run} 2>/dev/null"
    )
    wait_for(f"the end of run {run}", lambda: not lab.root("sh", "-c", left, check=False).stdout, 60)
    return seen


_ROWS = """
import hashlib, json, sqlite3, sys
con = sqlite3.connect("file:/var/lib/hybrid-engine/hybrid.db?mode=ro", uri=True, timeout=10)
con.execute("BEGIN")
top = lambda table: con.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}").fetchone()[0]
tables = ("runs", "ticks", "signals", "orders", "trades")
tops = json.loads(sys.argv[1]) or {table: top(table) - (table == "runs") for table in tables}
bounds = {**{table: f"id <= {tops[table]}" for table in tables}, "gaps": f"run_id <= {tops['runs']}"}
whole = hashlib.sha256()
for table, bound in bounds.items():
    for row in con.execute(f"SELECT * FROM {table} WHERE {bound} ORDER BY id"):
        whole.update(repr((table, row)).encode())
sound = [con.execute("PRAGMA integrity_check").fetchone()[0], con.execute("PRAGMA foreign_key_check").fetchall()]
modes = [mode for mode, in con.execute("SELECT DISTINCT ingest_mode FROM runs")]
print(json.dumps({"tops": tops, "rows": whole.hexdigest(), "sound": sound, "modes": modes}))
"""


def rows(lab: Lab, tops: dict[str, int] | None = None) -> dict[str, Any]:
    """The operator's database while its engine writes to it: a digest of every row up to `tops` (now: all that will
    not change any more, that is all but the run that goes on), whether it is sound, and what was ever fed to it."""
    result: dict[str, Any] = json.loads(lab.root("python3", "-c", _ROWS, json.dumps(tops)).stdout)
    return result


def files(lab: Lab) -> str:
    """The operator's database at rest, bit by bit."""
    return lab.root("sh", "-c", "cd /var/lib/hybrid-engine && sha256sum *").stdout


def events(lab: Lab, run: str) -> list[dict[str, Any]]:
    text = lab.root("cat", f"{EVIDENCE}/{run}/events.jsonl").stdout
    return [json.loads(line) for line in text.splitlines()]


def recorded_verdict(lab: Lab, run: str, folder: Path) -> str:
    """The statement's verdict, and on the way: that the chain of the recording is whole."""
    copy = folder / "events.jsonl"
    copy.write_text(lab.root("cat", f"{EVIDENCE}/{run}/events.jsonl").stdout)
    recorder.read(copy)
    statement = json.loads(lab.root("cat", f"{EVIDENCE}/{run}/statement.json").stdout)
    return str(statement["predicate"]["verdict"])
