"""The parts of the systemd unit that this process runs in: its files in force, and the environment that it gives.

A proof is of a unit as well as of a release. Each part is one line, "SHA256 KIND NAME", and names what differs.
proofs/evidence/unit_parts.py writes the same lines from outside.
"""

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

SYSTEMCTL = "/usr/bin/systemctl"  # by its full name, and without our environment, which could name another bus
# What systemd sets anew for each process.
OF_ONE_PROCESS = frozenset(
    {"INVOCATION_ID", "JOURNAL_STREAM", "MAINPID", "NOTIFY_SOCKET", "SYSTEMD_EXEC_PID", "WATCHDOG_PID"}
)
_SHOWN = ("FragmentPath", "DropInPaths", "NeedDaemonReload")
_SECONDS = 10


class UnitError(Exception):
    """The unit cannot be read, or is not in force as its files say; the text says why."""


def part(kind: str, name: str, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()} {kind} {name}"


def digest(parts: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()


def differences(proven: Iterable[str], present: Iterable[str]) -> list[str]:
    """How the present parts differ from the proven ones, in words."""
    before, now = ({line.partition(" ")[2]: line for line in lines} for lines in (proven, present))
    changed = [f"{name} is another" for name in before.keys() & now.keys() if before[name] != now[name]]
    gone = [f"{name} is gone" for name in before.keys() - now.keys()]
    return sorted([*changed, *gone, *(f"{name} is new" for name in now.keys() - before.keys())])


def unit_parts(proc: Path = Path("/proc")) -> list[str]:
    """The parts of this process's unit: its fragment and drop-ins in force, and the process's variables.

    Raises UnitError: it runs in no unit, or systemd does not say which files the unit has, or has not read them as they
    are now.
    """
    try:
        return [*_files(_unit_name(proc)), *_variables((proc / "self" / "environ").read_bytes())]
    except OSError as error:
        raise UnitError(f"a part of the unit cannot be read: {error}") from None


def _unit_name(proc: Path) -> str:
    match = re.search(r"^0::\S*/([^/\s]+\.service)$", (proc / "self" / "cgroup").read_text(), re.MULTILINE)
    if match is None:
        raise UnitError("this process runs in no unit of systemd; a proof is of a unit")
    return match[1]


def _files(unit: str) -> list[str]:
    command = [SYSTEMCTL, "show", f"--property={','.join(_SHOWN)}", "--", unit]
    try:
        answer = subprocess.run(command, env={}, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnitError(f"systemd cannot be asked for the files of {unit}: {error}") from None
    shown = dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
    if answer.returncode != 0 or not all(name in shown for name in _SHOWN) or not shown["FragmentPath"]:
        raise UnitError(
            f"systemd does not name the files of {unit}: {answer.stderr.strip()[:200] or 'no reason given'}"
        )
    if shown["NeedDaemonReload"] != "no":
        raise UnitError(f"the files of {unit} are not those in force; use systemctl daemon-reload")
    paths = f"{shown['FragmentPath']} {shown['DropInPaths']}".split()
    return [part("file", path, Path(path).read_bytes().strip(b"\n")) for path in paths]


def _variables(environ: bytes) -> list[str]:
    pairs = (variable.partition(b"=") for variable in environ.split(b"\0") if variable)
    named = ((name.decode(errors="backslashreplace"), value) for name, _, value in pairs)
    return [part("environment", name, value) for name, value in named if name not in OF_ONE_PROCESS]
