"""What was deployed to this host, by which line of the history, and how the host differs from it. It only reads.

Used by modules, by "verify", and on the host itself by hybrid-drift-check.timer: standard library only, one file.
The history has one JSON object a line, appended by the module deployment_history: {when, what, of, outcome, by,
ssh_user, from, address, revision, release, config_digest, changed, tried, why}. One left half written is passed over.
"""

from __future__ import annotations

import glob
import grp
import hashlib
import json
import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

Entry = dict[str, Any]  # a line of the history, with "line": its number

HISTORY = "/var/log/hybrid-engine/deployments.jsonl"
DEPLOYED = "/var/lib/hybrid-deploy/deployed"
ROLLED_BACK = "/var/lib/hybrid-deploy/rolled-back"
CURRENT = "/opt/hybrid-engine/current"
PROOF_LOCK = "/run/hybrid-proofs/lock"
# What may run from the engine's code beside its unit, for a while: candidates, proofs, and who asks how it is.
BESIDE = re.compile(r"/(hybrid-engine-candidate|hybrid-proof-[^/]+|hybrid-(soak|health-snapshot|drift-check))\.service")
ASKING = {"health", "config", "version", "capture"}


def entries(path: str) -> tuple[list[Entry], list[int]]:
    """The lines of a history, the oldest first, and the numbers of those that cannot be read (none is no history)."""
    try:
        with open(path, "rb") as stream:
            lines = stream.read().split(b"\n")
    except FileNotFoundError:
        return [], []
    read: list[Entry] = []
    torn: list[int] = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict) and isinstance(value.get("when"), str):
            read.append({**value, "line": number})
        elif line:
            torn.append(number)
    return read, torn


def put_there_by(history: Sequence[Entry], path: str) -> Entry | None:
    """The newest line that put a path into the state in which it should be: one that lasted, and names the path."""
    for entry in reversed(history):
        named = {str(change).partition(" (")[0] for change in entry.get("changed") or []}
        if entry.get("outcome") == "done" and path in named:
            return entry
    return None


def told(entry: Entry | None) -> str:
    """A line of the history in a few words, for a sentence that names it."""
    if entry is None:
        return "deployed before the history began"
    what = " ".join(str(entry[key]) for key in ("what", "of") if entry.get(key))
    return f"line {entry['line']} of the history: {what}, {entry['when'][:19]}Z, by {entry.get('by') or 'somebody'}"


def strays(unit: str) -> list[str]:
    """Processes that run the engine's code and are not the unit's: an old copy, or one started by hand."""
    ours, pid = set[int](), os.getpid()
    while pid > 1 and pid not in ours:  # whoever asks is no copy, though its command line may hold these very words
        ours.add(pid)
        pid = _parent(pid)
    found = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        group = _text(f"/proc/{pid}/cgroup")
        if pid not in ours and f"/{unit}" not in group and not BESIDE.search(group):
            argv = _text(f"/proc/{pid}/cmdline").split("\0")
            program, cwd = _link(f"/proc/{pid}/exe"), _link(f"/proc/{pid}/cwd")
            named = runs_engine(program, argv, cwd)
            if named:
                where = group.strip().rpartition("\n")[2].rpartition("/")[2] or "no unit"
                found.append(f"process {pid} of {where} runs the engine beside {unit}: {named}, in {cwd}")
    return found


def runs_engine(program: str, argv: Sequence[str], cwd: str) -> str:
    """By which word a process is known to run an engine; empty where it does not. Its other words may be secret."""
    name = os.path.basename(program)
    if name in ("hybrid-engine", "hybrid_engine"):
        return program
    if not name.startswith(("python", "pypy")):
        return ""  # an editor or a shell in the checkout runs nothing of it
    for at, word in enumerate(argv[1:], 1):
        script = os.path.basename(word) == "hybrid-engine"
        if (
            script
            or (argv[at - 1] == "-m" and word.split(".")[0] == "hybrid_engine")
            or "/hybrid_engine/" in f"/{word}"
        ):
            asking = at + 1 < len(argv) and argv[at + 1] in ASKING
            return "" if asking else word[:200]
    return cwd if "hybrid_engine" in cwd.split("/") else ""


def drift(unit: str) -> list[str]:
    """Every way in which the host differs from what was deployed, each with the line of the history that it is of."""
    history, _ = entries(HISTORY)
    return [*_files(history, unit), *_release(history), *_process(history, unit), *strays(unit)]


def _files(history: Sequence[Entry], unit: str) -> Iterator[str]:
    """Units, drop-ins, configuration: as the records of what was deployed have them; and others' drop-ins."""
    out = {os.path.basename(path) for path in glob.glob(f"{ROLLED_BACK}/{unit}/*.conf")}
    known: set[str] = set()
    if not os.path.exists(f"{DEPLOYED}/{unit}.json"):
        yield f"{unit} was never deployed here: {DEPLOYED} has no record of it"
    for record in map(_json, sorted(glob.glob(f"{DEPLOYED}/*.json"))):
        for path, about in {**record.get("files", {}), **record.get("directories", {})}.items():
            known.add(path)
            rolled_back = f"/{unit}.d/" in path and os.path.basename(path) in out
            wrong = "there, and rolled back" if rolled_back and os.path.exists(path) else ""
            wrong = wrong or ("" if rolled_back else _difference(path, about))
            if wrong:
                yield f"{path} is {wrong} ({told(put_there_by(history, path))})"
        for path, target in record.get("links", {}).items():
            if _link(path) != target:
                led = _link(path) or "nothing"
                yield f"{path} leads to {led} where {target} was deployed ({told(put_there_by(history, path))})"
    for path in _show(unit, "DropInPaths").split():
        if f"/{unit}.d/" in path and path not in known:
            yield f"{path} changes {unit}, and nobody deployed it"
    if _show(unit, "NeedDaemonReload") == "yes":
        yield f"{unit} changed on the disk since systemd read it"


def _difference(path: str, about: dict[str, str]) -> str:
    """How a file or directory differs from its record; empty where it does not."""
    try:
        status = os.lstat(path)
        owner, group = pwd.getpwnam(about["owner"]).pw_uid, grp.getgrnam(about["group"]).gr_gid
    except OSError:
        return "missing"
    except KeyError as missing:
        return f"of a user or group that is missing: {missing}"
    wrong = []
    if "sha256" in about and (not stat.S_ISREG(status.st_mode) or _sha256(path) != about["sha256"]):
        wrong.append("altered")
    if (status.st_uid, status.st_gid) != (owner, group):
        wrong.append(f"owned by {status.st_uid}:{status.st_gid}")
    if f"{stat.S_IMODE(status.st_mode):04o}" != about["mode"]:
        wrong.append(f"of mode {stat.S_IMODE(status.st_mode):04o}")
    return ", ".join(wrong)


def _release(history: Sequence[Entry]) -> Iterator[str]:
    """The files of the live release: as they were built and compiled, root's, and nothing beside them."""
    home = os.path.realpath(CURRENT)
    by = told(put_there_by(history, CURRENT) or put_there_by(history, home))
    release, bytecode = _json(f"{home}/release.json"), _json(f"{home}/bytecode.json")
    built: dict[str, str] = release.get("files", {})
    if not built:
        yield f"{home} is no release ({by})"
        return
    digest = hashlib.sha256("".join(f"{path}\0{built[path]}\n" for path in sorted(built)).encode()).hexdigest()
    if not home.endswith(f"-{digest[:12]}"):
        yield f"{home}/release.json is altered ({by})"
    compiled = {path: sha for path, sha in bytecode.get("files", {}).items() if sha}
    wanted = {**built, **compiled}
    present = set()
    for folder, _, names in os.walk(home):
        for path in (os.path.join(folder, name) for name in names):
            present.add(os.path.relpath(path, home))
            if (status := os.lstat(path)).st_uid or status.st_mode & 0o022:
                yield f"{path} could be changed by others than root ({by})"
    for name in sorted(set(wanted) | present):
        if name not in present:
            yield f"{home}/{name} is missing ({by})"
        elif name in wanted and _sha256(f"{home}/{name}") != wanted[name]:
            yield f"{home}/{name} is altered ({by})"
        elif name not in wanted and name not in ("release.json", "bytecode.json"):
            yield f"{home}/{name} is not part of the release ({by})"


def _process(history: Sequence[Entry], unit: str) -> Iterator[str]:
    """The engine that runs: as its own user, in its own directory, from this release with this configuration."""
    name = unit.removesuffix(".service")
    pid, lasted = _show(unit, "MainPID"), [entry for entry in history if entry.get("outcome") == "done"]
    by = told(lasted[-1] if lasted else None)
    if pid in ("", "0"):
        yield f"{unit} does not run ({by})"
        return
    status = dict(line.split(":", 1) for line in _text(f"/proc/{pid}/status").splitlines() if ":" in line)
    try:
        own = str(pwd.getpwnam(name).pw_uid)
    except KeyError:
        own = "missing"
    if status.get("Uid", "").split() != [own] * 4:
        yield f"{unit} runs as user {status.get('Uid', '?').split()[0]} where {name} ({own}) belongs ({by})"
    if (cwd := _link(f"/proc/{pid}/cwd")) != f"/var/lib/{name}":
        yield f"{unit} works in {cwd} where /var/lib/{name} belongs ({by})"
    this_start = f"_SYSTEMD_INVOCATION_ID={_show(unit, 'InvocationID')}"
    said = _run("journalctl", "--no-pager", "--output=cat", "--grep=engine starting|reloaded", this_start)
    running: dict[str, str] = {}
    for line in said.splitlines():
        fields = json.loads(line).get("fields", {}) if line.startswith("{") else {}
        if fields.get("message") in ("engine starting", "reloaded"):
            running |= {key: fields[key] for key in ("release_name", "config_digest") if key in fields}
    live = os.path.basename(os.path.realpath(CURRENT))
    wanted = {"release_name": live, "config_digest": lasted[-1].get("config_digest") if lasted else None}
    for key, value in wanted.items():
        if value and running.get(key, value) != value:
            yield f"{unit} runs with {key} {running[key]} where {value} was deployed ({by})"


def _parent(pid: int) -> int:
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _json(path: str) -> dict[str, Any]:
    try:
        value = json.loads(_text(path))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _sha256(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout


def _show(unit: str, key: str) -> str:
    return _run("systemctl", "show", f"--property={key}", "--value", unit).strip()


def _proof() -> str:
    """Which proof holds this host, which changes it on purpose; empty where none does. The lock is not touched."""
    try:
        status = os.stat(PROOF_LOCK)
    except OSError:
        return ""
    held = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino} "
    locked = any("FLOCK" in line and held in line for line in _text("/proc/locks").splitlines())
    return _text(PROOF_LOCK).partition("\n")[0] if locked else ""


def main() -> int:
    """A line of JSON for each difference; exit status 1 where there is one, so that the unit fails and is seen."""
    if proof := _proof():
        print(json.dumps({"drift": None, "note": f"a proof holds this host ({proof}): not looked at"}))
        return 0
    found = drift("hybrid-engine.service")
    for line in found:
        print(json.dumps({"drift": line}))
    if not found:
        print(json.dumps({"drift": None, "note": "as deployed"}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
