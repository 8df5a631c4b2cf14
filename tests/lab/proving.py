"""What the tests of the proofs share: a host as it is, and runs that are begun, watched and killed."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.deploying import UNIT, fingerprint
from tests.lab.labs import Lab, wait_for

PROGRAM = "/opt/hybrid-proofs/current/bin/hybrid-proofs"
EVIDENCE = "/var/lib/hybrid-proofs"
# Begin a run, wait until its recording has so many events, and strike. All inside the host: a command over there is
# quicker than the road to it.
_STRIKE = """
import subprocess, sys, time
program, name, run, events, how, *flags = sys.argv[1:]
subprocess.run([program, "run", name, "--run", run, "--no-wait", *flags], check=True, stdout=subprocess.DEVNULL)
unit, path, seen, last = f"hybrid-proof-{run}.service", f"/var/lib/hybrid-proofs/{run}/events.jsonl", 0, b""
deadline = time.monotonic() + 90
while seen < int(events) and time.monotonic() < deadline:
    try:
        last = open(path, "rb").read()
    except FileNotFoundError:
        pass
    seen = last.count(b"\\n")
    time.sleep(0.005)
subprocess.run(["systemctl", "kill", "--kill-whom=main", f"--signal={how}", unit], check=True)
print(seen)
"""


def install(lab: Lab) -> None:
    """Engine and proofs on the host, as a playbook puts them there, without a proof being run."""
    lab.ansible("deploy.yml")
    lab.ansible("prove.yml", "--tags=install")


def picture(lab: Lab) -> dict[str, str]:
    """Everything that a proof has to leave as it found it."""
    units = lab.root("systemctl", "list-units", "--all", "--plain", "--no-legend", "hybrid*", "proof*").stdout
    return {
        "cat": lab.root("systemctl", "cat", UNIT).stdout,
        "etc": fingerprint(lab, "/etc"),
        "release": fingerprint(lab, "/opt"),
        "run": lab.root("sh", "-c", "find /run/systemd/system* /run/systemd/transient ! -type d", check=False).stdout,
        "active": lab.root("systemctl", "is-active", UNIT, check=False).stdout,
        "units": "\n".join(" ".join(line.split()[:4]) for line in units.splitlines()),
        "scratch": lab.root("sh", "-c", "ls /run/hybrid-proofs 2>/dev/null | grep -v lock", check=False).stdout,
        "exchanges": lab.root("pgrep", "-f", "mock_exchange", check=False).stdout,
        "mounts": lab.root("sh", "-c", "grep hybrid-proof /proc/self/mountinfo", check=False).stdout,
        "failed": lab.root("systemctl", "--failed", "--plain", "--no-legend").stdout,
    }


def strike(lab: Lab, name: str, run: str, events: int, how: str = "KILL", *flags: str) -> int:
    """Begin `run`, send its main process a signal after so many events, and wait until nothing of it is left."""
    words = (PROGRAM, name, run, str(events), how, *flags)
    seen = int(lab.root("python3", "-c", _STRIKE, *words, timeout=180).stdout)
    left = (
        f"systemctl list-units --all --plain --no-legend 'hybrid-proof-*'; ls -d /run/hybrid-proofs/{run} 2>/dev/null"
    )
    wait_for(f"the end of run {run}", lambda: not lab.root("sh", "-c", left, check=False).stdout, 60)
    return seen


def events(lab: Lab, run: str) -> list[dict[str, Any]]:
    text = lab.root("cat", f"{EVIDENCE}/{run}/events.jsonl").stdout
    return [json.loads(line) for line in text.splitlines()]
