"""Print the state of a deployed host as one JSON object; runs there, as root. Standard library only.

It reads and changes nothing. The database is read as the service's own user: root would leave files beside it.
"""

import glob
import json
import os
import pwd
import stat
import subprocess
import sys
import time
import types
from typing import Any

UNIT = sys.argv[1] if len(sys.argv) > 1 else "hybrid-engine.service"
NAME = UNIT.removesuffix(".service")
ROOT = f"/opt/{NAME}"
PROGRAM = f"{ROOT}/current/bin/{NAME}"
RECORDER = "hybrid-health-snapshot"
REMEMBERED = "/var/lib/hybrid-deploy"
# The program that finds drift comes as text, so that it need not be installed on the host.
DRIFT = types.ModuleType("drift")
exec(sys.argv[2], DRIFT.__dict__)


def run(*argv: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"{argv[0]}: no answer within 60 s")


def as_user(*argv: str) -> "subprocess.CompletedProcess[str]":
    return run("setpriv", f"--reuid={NAME}", f"--regid={NAME}", "--clear-groups", *argv)


def properties(unit: str) -> dict[str, str]:
    """All that systemd shows of a unit."""
    lines = run("systemctl", "show", unit).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def text(path: str) -> str:
    return str(DRIFT.read_text(path))


def value(path: str) -> Any:
    try:
        return json.loads(text(path))
    except ValueError:
        return None


def status(pid: int | str) -> dict[str, str]:
    """/proc/PID/status as {key: text}; empty where there is no such process."""
    return dict(line.split(":", 1) for line in text(f"/proc/{pid}/status").splitlines() if ":" in line)


def recorder() -> dict[str, Any]:
    """The flight recorder: its units, and for how long it has recorded nothing."""
    timer, service = properties(f"{RECORDER}.timer"), properties(f"{RECORDER}.service")
    days = sorted(glob.glob(f"/var/lib/{RECORDER}/*.jsonl"))
    # How long it had time for one: since the newest record, or since its timer began, as after a night switched off.
    age = time.time() - os.lstat(days[-1]).st_mtime if days else float("inf")
    age = min(age, time.monotonic() - int(timer.get("ActiveEnterTimestampMonotonic") or 0) / 1e6)
    deployed = value(f"{REMEMBERED}/deployed/{RECORDER}.timer.json")
    return {"deployed": deployed, "timer": timer, "service": service, "idle_s": age}


def directory(path: str) -> dict[str, str]:
    """Kind, mode and owner of what is at a path; a link is not followed."""
    try:
        found = os.lstat(path)
        owner = pwd.getpwuid(found.st_uid).pw_name
    except (OSError, KeyError) as error:
        return {"error": str(error)}
    return {"directory": str(stat.S_ISDIR(found.st_mode)), "mode": f"{stat.S_IMODE(found.st_mode):04o}", "owner": owner}


def shell_of(user: str) -> str:
    """A user's login shell; empty where there is no such user."""
    try:
        return pwd.getpwnam(user).pw_shell
    except KeyError:
        return ""


def history() -> list[dict[str, Any]]:
    """The lines of the history; none where something else stands in its place, which is a difference of its own."""
    try:
        return list(DRIFT.read_history(DRIFT.HISTORY)[0])
    except OSError:
        return []


def health_of(output: str) -> dict[str, Any]:
    """What the engine says of itself; empty where it says nothing that can be read."""
    try:
        answer = json.loads(output)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def main() -> None:
    unit = properties(UNIT)
    pid = unit.get("MainPID", "0")
    namespaces = {}
    for kind in ("mnt", "user"):
        try:
            namespaces[kind] = os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/1/ns/{kind}")
        except OSError:
            namespaces[kind] = False
    this_start = f"_SYSTEMD_INVOCATION_ID={unit.get('InvocationID', '')}"
    out = f"{REMEMBERED}/rolled-back/{UNIT}"
    checked = as_user(PROGRAM, "config", "check")
    health = as_user(PROGRAM, "health", "--json")
    state = {
        "drift": DRIFT.find_drift(UNIT),
        "history": history(),
        "running": DRIFT.running_values(UNIT),
        "unit": unit,
        "status": status(pid),
        "init_status": status(1),
        "stat": text(f"/proc/{pid}/stat").rpartition(")")[2].split(),
        "limits": text(f"/proc/{pid}/limits").splitlines(),
        "mounts": text(f"/proc/{pid}/mountinfo").splitlines(),
        "environ": text(f"/proc/{pid}/environ").split("\0"),
        "namespaces": namespaces,
        "shell": shell_of(NAME),
        "state_directory": directory(f"/var/lib/{NAME}"),
        "journal_end": run("journalctl", "--no-pager", "-oshort-iso", "-n40", f"-u{UNIT}").stdout.splitlines(),
        "journal": run("journalctl", "--no-pager", "--output=cat", this_start).stdout.splitlines(),
        "deployed": value(f"{REMEMBERED}/deployed/{UNIT}.json"),
        "dropins": {path: text(path) for path in unit.get("DropInPaths", "").split()},
        "rolled_back": {name: value(f"{out}/{name}") for name in sorted(os.listdir(out))} if os.path.isdir(out) else {},
        "release": value(f"{ROOT}/current/release.json"),
        "releases": value(f"{REMEMBERED}/releases.json"),
        "recorder": recorder(),
        "config_check": {"rc": checked.returncode, "output": checked.stdout.splitlines(), "error": checked.stderr},
        "health": health_of(health.stdout) or {"error": health.stderr},
    }
    print(json.dumps(state))


main()
