"""One systemd unit as its operator sees it: systemctl, the journal, /proc."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proofs.host.regular_file import read_regular
from proofs.host.shell import Host
from proofs.verdict import Json

_PROPERTIES = (
    "ActiveState,SubState,Result,MainPID,InvocationID,NRestarts,ExecMainStatus,ExecMainCode,"
    "ExecMainStartTimestampMonotonic,WatchdogUSec,RestartUSec,ControlGroup,User,Group,Job"
)
_FIELDS = "MESSAGE,MESSAGE_ID,UNIT,UNIT_RESULT,INVOCATION_ID,_SYSTEMD_INVOCATION_ID,_PID,PRIORITY"
# systemd's catalogue: "A start job for unit UNIT has begun execution" (sd-messages.h, SD_MESSAGE_UNIT_STARTING).
UNIT_STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
# "The unit UNIT has successfully entered the dead state" (SD_MESSAGE_UNIT_SUCCESS): all that it says of a clean exit.
UNIT_SUCCESS = "7ad2d189f7e94e70a38c781354912448"
# "A start job for unit UNIT has finished successfully" (SD_MESSAGE_UNIT_STARTED): the engine said that it is ready.
UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"
# "A reload job for unit UNIT has finished" (SD_MESSAGE_UNIT_RELOADED), also with a failure: see its result.
UNIT_RELOADED = "7b05ebc668384222baa8881179cfda54"
_SPAN = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def seconds(span: str) -> float:
    """A time span as `systemctl show` prints it.

    >>> seconds("1min 30s"), seconds("100ms"), seconds("infinity"), seconds("0")
    (90.0, 0.1, inf, 0.0)
    """
    if span == "infinity":  # what systemctl says of a limit that is not set
        return float("inf")
    parts = re.findall(r"([\d.]+)([a-z]*)", span)
    return sum(float(value) * _SPAN.get(name, 0.0 if float(value) == 0 else 1.0) for value, name in parts)


@dataclass(frozen=True)
class State:
    """What `systemctl show` says; times in seconds, `started_s` on CLOCK_MONOTONIC."""

    active: str
    sub: str
    result: str
    pid: int
    invocation: str
    restarts: int
    exec_status: int
    started_s: float
    watchdog_s: float
    restart_s: float
    control_group: str
    user: str
    group: str
    job: int

    @property
    def running(self) -> bool:
        return self.active == "active" and self.sub == "running" and self.pid > 0


@dataclass(frozen=True)
class Entry:
    """One journal entry: `mono_s` when journald received it; `invocation` the run of the unit that it belongs to.

    unit: which one systemd says this about; "" for what the unit wrote itself.
    """

    mono_s: float
    wall_s: float
    message: str
    invocation: str
    unit_result: str
    message_id: str
    cursor: str = ""
    unit: str = ""

    def fields(self) -> dict[str, Json]:
        """`fields` of an engine's JSON line; empty for anything else."""
        try:
            fields = json.loads(self.message)["fields"]
        except (ValueError, LookupError, TypeError):
            return {}
        return fields if isinstance(fields, dict) else {}


class Unit:
    """A unit by its name, on a host: how it is asked and watched. What is installed under that name is a Subject's."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name

    def state(self, quiet: bool = True) -> State:
        """Raises ValueError when systemctl does not answer."""
        argv = ("systemctl", "show", self.name, f"--property={_PROPERTIES}")
        return state_of(values_of(self.host.look(*argv, quiet=quiet).stdout))

    def properties(self, *names: str, quiet: bool = True) -> dict[str, str]:
        argv = ("systemctl", "show", self.name, f"--property={','.join(names)}")
        return values_of(self.host.look(*argv, quiet=quiet).stdout)

    def files(self) -> list[Path]:
        """The unit's fragment and its drop-ins, in the order systemd reads them."""
        shown = self.properties("FragmentPath", "DropInPaths")
        return [Path(name) for key in ("FragmentPath", "DropInPaths") for name in shown.get(key, "").split()]

    def cat(self) -> str:
        return self.host.look("systemctl", "cat", self.name).stdout

    def cat_digest(self) -> str:
        return hashlib.sha256(self.host.look("systemctl", "cat", self.name, quiet=True).stdout.encode()).hexdigest()

    def status(self, pid: int) -> str:
        """How that process is, by the lines State and Threads of /proc/PID/status."""
        return self.host.look("grep", "-E", "^(State|Threads):", f"/proc/{pid}/status").stdout

    def cursor(self) -> str:
        """The journal's end, as a mark to read from later."""
        self.host.look("journalctl", "--sync", quiet=True)
        out = self.host.look("journalctl", "-n0", "--show-cursor", "-q", quiet=True).stdout
        return out.rpartition("-- cursor: ")[2].strip()

    def journal(self, cursor: str, quiet: bool = False) -> list[Entry]:
        """What the unit and systemd about it wrote after that mark."""
        if not quiet:  # the last word on something: make journald hand over what it still holds
            self.host.look("journalctl", "--sync", quiet=True)
        argv = ["journalctl", "-u", self.name, "-o", "json", f"--output-fields={_FIELDS}", "-q", "--no-pager"]
        # Not --after-cursor=: where the marked entry is another unit's, systemd 252 skips this one's first instead.
        out = self.host.look(*argv, f"--cursor={cursor}", quiet=quiet)
        return entries_of(out.stdout, cursor)


def state_of(shown: Mapping[str, str]) -> State:
    """What `systemctl show` printed, as the unit's state. Raises LookupError, ValueError: it printed something else."""

    def number(key: str) -> int:
        return int(shown.get(key) or 0)

    return State(
        active=shown["ActiveState"],
        sub=shown["SubState"],
        result=shown["Result"],
        pid=number("MainPID"),
        invocation=shown.get("InvocationID", ""),
        restarts=number("NRestarts"),
        exec_status=number("ExecMainStatus"),
        started_s=number("ExecMainStartTimestampMonotonic") / 1e6,
        watchdog_s=seconds(shown.get("WatchdogUSec", "0")),
        restart_s=seconds(shown.get("RestartUSec", "0")),
        control_group=shown.get("ControlGroup", ""),
        user=shown.get("User", ""),
        group=shown.get("Group", ""),
        job=int((shown.get("Job") or "0").split()[0]),
    )


def values_of(output: str) -> dict[str, str]:
    """What `systemctl show` printed, by property."""
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def entries_of(text: str, cursor: str) -> list[Entry]:
    """What `journalctl -o json` printed, without the entry that the cursor marks."""
    return [_entry(raw) for line in text.splitlines() if (raw := json.loads(line))["__CURSOR"] != cursor]


def _entry(raw: dict[str, Json]) -> Entry:
    message = raw.get("MESSAGE")
    if isinstance(message, list):  # journald gives bytes that are no text as numbers
        message = bytes(message).decode(errors="replace")
    return Entry(
        mono_s=int(raw["__MONOTONIC_TIMESTAMP"]) / 1e6,
        wall_s=int(raw["__REALTIME_TIMESTAMP"]) / 1e6,
        message=message or "",
        invocation=raw.get("INVOCATION_ID") or raw.get("_SYSTEMD_INVOCATION_ID") or "",
        unit_result=raw.get("UNIT_RESULT") or "",
        message_id=raw.get("MESSAGE_ID") or "",
        cursor=raw["__CURSOR"],
        unit=raw.get("UNIT") or "",
    )


def process_state_of(status: str) -> str:
    """The letter of a process's state in its status; "" where there was none."""
    match = re.search(r"^State:\s*(\w)", status, re.M)
    return match[1] if match else ""


def threads_of(status: str) -> int:
    match = re.search(r"^Threads:\s*(\d+)", status, re.M)
    return int(match[1]) if match else 0


def starts(entries: Iterable[Entry]) -> list[str]:
    """The invocation of each start that systemd began, in order."""
    return [entry.invocation for entry in entries if entry.message_id == UNIT_STARTING]


def exits(entries: Iterable[Entry]) -> list[tuple[float, int]]:
    """When (monotonic seconds) and with which status each main process ended that systemd saw end; signals negative."""
    ended = re.compile(r"Main process exited, code=(\w+), status=(\d+)")
    matches = [(entry.mono_s, match) for entry in entries if (match := ended.search(entry.message))]
    return [(at_s, int(match[2]) * (1 if match[1] == "exited" else -1)) for at_s, match in matches]


def engine_lines(entries: Iterable[Entry], message: str, invocation: str = "") -> list[tuple[Entry, dict[str, Json]]]:
    """The engine's JSON lines with that message (of that run), with their fields."""
    lines = [(entry, entry.fields()) for entry in entries if not invocation or entry.invocation == invocation]
    return [(entry, fields) for entry, fields in lines if fields.get("message") == message]


def tree_digest(paths: Sequence[Path]) -> str:
    """One digest over names, modes, owners and contents of everything under these directories."""
    whole = hashlib.sha256()
    for root in paths:
        for path in sorted([root, *root.rglob("*")]):
            about = path.lstat()
            whole.update(f"{path}\0{about.st_mode}\0{about.st_uid}\0{about.st_gid}\0".encode())
            if path.is_symlink():
                whole.update(str(path.readlink()).encode())
            elif path.is_file():
                whole.update(read_regular(path))
    return whole.hexdigest()
