"""The parts of a unit, which a proof is of: its files in force, what its configuration names, its environment.

Each part is one line, "SHA256 KIND NAME": of what a file holds, or of a variable's value. The gate of LIVE makes the
same lines from inside the unit (hybrid_engine/runtime/unit.py).
"""

import hashlib
import json
import re
from collections.abc import Iterable

# What systemd sets anew for each process.
OF_ONE_PROCESS = frozenset(
    {"INVOCATION_ID", "JOURNAL_STREAM", "MAINPID", "NOTIFY_SOCKET", "SYSTEMD_EXEC_PID", "WATCHDOG_PID"}
)
FILE, ENVIRONMENT = "file", "environment"
# How `hybrid-engine config check` names a file that the configuration names, and what it holds.
_NAMED = re.compile(r"^holds ([0-9a-f]{64} (?:ca_file|strategy) \S.*)$", re.M)


def part(kind: str, name: str, content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()} {kind} {name}"


def of_file(path: str, content: bytes) -> str:
    """A fragment or drop-in. Empty lines around it are no part of it, as `systemctl cat` adds some."""
    return part(FILE, path, content.strip(b"\n"))


def of_environment(environ: bytes) -> list[str]:
    """The variables in the content of /proc/PID/environ."""
    pairs = (variable.partition(b"=") for variable in environ.split(b"\0") if variable)
    named = ((name.decode(errors="backslashreplace"), value) for name, _, value in pairs)
    return [part(ENVIRONMENT, name, value) for name, value in named if name not in OF_ONE_PROCESS]


def of_config(checked: str) -> list[str]:
    """The files that the configuration names, by the output of `hybrid-engine config check`."""
    return _NAMED.findall(checked)


def digest(parts: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()


def differences(proven: Iterable[str], present: Iterable[str]) -> list[str]:
    """How the present parts differ from the proven ones, in words."""
    before, now = ({line.partition(" ")[2]: line for line in lines} for lines in (proven, present))
    changed = [f"{name} is another" for name in before.keys() & now.keys() if before[name] != now[name]]
    gone = [f"{name} is gone" for name in before.keys() - now.keys()]
    return sorted([*changed, *gone, *(f"{name} is new" for name in now.keys() - before.keys())])
