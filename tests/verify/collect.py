"""Runs on the host, as root, and prints what is true there as one JSON object. Standard library only.

It reads and changes nothing; the database is read as the service's own user, for root would leave files beside it.
"""

import glob
import hashlib
import json
import os
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
REMEMBERED = "/var/lib/hybrid-deploy"
# The history's reader comes as text, for nothing of it need be on the host.
STATE = types.ModuleType("deployed_state")
exec(sys.argv[2], STATE.__dict__)


def run(*argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def as_user(*argv: str) -> "subprocess.CompletedProcess[str]":
    return run("setpriv", f"--reuid={NAME}", f"--regid={NAME}", "--clear-groups", *argv)


def text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def status(pid: int | str) -> dict[str, str]:
    """/proc/PID/status as {key: text}; empty where there is no such process."""
    return dict(line.split(":", 1) for line in text(f"/proc/{pid}/status").splitlines() if ":" in line)


def value(path: str) -> Any:
    try:
        return json.loads(text(path))
    except ValueError:
        return None


def about(path: str) -> dict[str, Any]:
    """Kind, owner, mode and contents of one path."""
    try:
        status = os.lstat(path)
    except OSError:
        return {"kind": "missing"}
    found: dict[str, Any] = {"mode": f"{stat.S_IMODE(status.st_mode):04o}", "uid": status.st_uid, "gid": status.st_gid}
    if stat.S_ISLNK(status.st_mode):
        return {"kind": "link", "target": os.readlink(path)}
    if stat.S_ISDIR(status.st_mode):
        return {"kind": "directory", **found}
    with open(path, "rb") as stream:
        return {"kind": "file", **found, "sha256": hashlib.sha256(stream.read()).hexdigest()}


def tree(top: str) -> dict[str, Any]:
    """Everything below a directory, as {relative path: about}."""
    found = {"": about(top)}
    for folder, names, files in os.walk(top):
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, top)] = about(path)
    return found


def recorder() -> dict[str, Any]:
    """The flight recorder: its units, its files, and how old its newest record is."""
    name = "hybrid-health-snapshot"
    deployed = value(f"{REMEMBERED}/deployed/{name}.timer.json")
    units = {}
    for kind in ("timer", "service"):
        shown = run("systemctl", "show", f"{name}.{kind}").stdout
        units[kind] = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    kept = sorted(glob.glob(f"/var/lib/{name}/*.jsonl"))
    # How long it had time for one: since the newest record, or since its timer began, as after a night switched off.
    age = time.time() - os.stat(kept[-1]).st_mtime if kept else float("inf")
    age = min(age, time.monotonic() - int(units["timer"].get("ActiveEnterTimestampMonotonic") or 0) / 1e6)
    found = {path: about(path) for path in (deployed or {}).get("files", {})}
    return {"deployed": deployed, "found": found, **units, "idle_s": age}


def main() -> None:
    shown = run("systemctl", "show", UNIT).stdout
    unit = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    pid = unit.get("MainPID", "0")
    namespaces = {}
    for kind in ("mnt", "user"):
        try:
            namespaces[kind] = os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/1/ns/{kind}")
        except OSError:
            namespaces[kind] = False
    home = os.path.realpath(f"{ROOT}/current")
    this_start = f"_SYSTEMD_INVOCATION_ID={unit.get('InvocationID', '')}"
    journal = run("journalctl", "--no-pager", "--output=cat", this_start).stdout.splitlines()
    deployed = value(f"{REMEMBERED}/deployed/{UNIT}.json")
    paths = [path for kind in (deployed or {}).values() for path in kind]
    out = f"{REMEMBERED}/rolled-back/{UNIT}"
    checked = as_user(PROGRAM, "config", "check")
    health = as_user(PROGRAM, "health", "--json")
    print(
        json.dumps(
            {
                "unit": unit,
                "status": status(pid),
                "init_status": status(1),
                "stat": text(f"/proc/{pid}/stat").rpartition(")")[2].split(),
                "limits": text(f"/proc/{pid}/limits").splitlines(),
                "mounts": text(f"/proc/{pid}/mountinfo").splitlines(),
                "environ": text(f"/proc/{pid}/environ").split("\0"),
                "cwd": os.readlink(f"/proc/{pid}/cwd") if os.path.exists(f"/proc/{pid}/cwd") else "",
                "namespaces": namespaces,
                "journal": journal,
                "deployed": deployed,
                "found": {path: about(path) for path in paths},
                "dropins": {path: text(path) for path in unit.get("DropInPaths", "").split()},
                "rolled_back": {name: value(f"{out}/{name}") for name in sorted(os.listdir(out))}
                if os.path.isdir(out)
                else {},
                "home": home,
                "release": value(f"{home}/release.json"),
                "bytecode": value(f"{home}/bytecode.json"),
                "above": {path: about(path) for path in (ROOT, f"{ROOT}/releases", REMEMBERED)},
                "tree": tree(home),
                "releases": value(f"{REMEMBERED}/releases.json"),
                "history": STATE.entries(STATE.HISTORY)[0],
                "strays": STATE.strays(UNIT),
                "state": about(f"/var/lib/{NAME}"),
                "recorder": recorder(),
                "config_check": {"rc": checked.returncode, "said": checked.stdout.splitlines(), "err": checked.stderr},
                "health": json.loads(health.stdout) if health.stdout.startswith("{") else {"err": health.stderr},
                "passwd": {
                    name: [e.split(":") for e in text(f"/etc/{name}").splitlines()] for name in ("passwd", "group")
                },
            }
        )
    )


main()
