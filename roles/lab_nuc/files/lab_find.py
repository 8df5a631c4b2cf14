"""Find the processes of a running lab in /proc, and end them. Nothing is stored, because PIDs are reused."""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from lab_common import STATE, wait_until
from lab_machine import remove_cgroups


def find_machine(name: str) -> int | None:
    """PID of the lab's outermost process, or None when the lab is off."""
    return next((pid for pid in _holders(name) if command_line(pid).startswith(b"unshare\0")), None)


def _holders(name: str) -> list[int]:
    """Every process that is the machine, or is about to become it."""
    needle = b"\0_machine\0" + os.fsencode(STATE / name) + b"\0"
    pids = []
    for pid in all_pids():
        if command_line(pid).endswith(needle) or _writes_console(pid, name):
            with suppress(OSError):  # it may have ended
                if os.stat(f"/proc/{pid}").st_uid == 0:
                    pids.append(pid)
    return pids


def _writes_console(pid: int, name: str) -> bool:
    """Whether it prints to the lab's console, as the child of an `up` does from before it lets go of the lock."""
    with suppress(OSError):  # it may have ended
        return os.readlink(f"/proc/{pid}/fd/1").removesuffix(" (deleted)") == str(STATE / name / "console.log")
    return False


def find_leader(name: str) -> int | None:
    """PID, as seen from here, of the init process inside the lab; None while off or between two boots."""
    outermost = find_machine(name)
    if outermost is None:
        return None
    holders = _children(outermost)
    for nspawn in [pid for holder in holders for pid in _children(holder)]:
        for pid in _children(nspawn):
            if _depth(pid) == _depth(outermost) + 2:
                return pid
    return None


def enter_argv(leader: int) -> list[str]:
    """The start of a command line that runs the rest inside the lab, as root.

    The shell waits for it from outside. nsenter's own waiting is not used: it stops itself when its child is
    stopped, which is what a shutdown does first to every process, and then the lab would wait for it in turn.
    """
    return ["nsenter", "-t", str(leader), "--all", "--no-fork", "/bin/sh", "-c", '"$@"; exit $?', "sh"]


def adopted_argv(leader: int, argv: list[str]) -> list[str]:
    """A command line that starts `argv` inside the lab and ends at once, so that init in there adopts it.

    Init then learns of its end: a shutdown that is not told when the last process ends waits ten seconds more,
    and so it does for one that only waits to be collected out here.
    """
    return [*enter_argv(leader), "setsid", "--fork", *argv]


def all_pids() -> list[int]:
    """Every process of this machine."""
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    """A file of a process in /proc; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}", name).read_bytes()
    except OSError:
        return b""


def command_line(pid: int) -> bytes:
    """A process's arguments, each ended by a zero byte; empty when it has ended."""
    return _read(pid, "cmdline")


def mounts_of(pid: int) -> str:
    """The mount namespace a process lives in; empty when it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Whether a process still runs; a zombie does not."""
    return _read(pid, "stat").rpartition(b") ")[2][:1] not in (b"", b"Z", b"X")


def _children(pid: int) -> list[int]:
    return [int(word) for word in _read(pid, f"task/{pid}/children").split()]


def _depth(pid: int) -> int:
    """How many PID namespaces deep a process is; 0 when it has ended."""
    pids = re.search(rb"^NSpid:\s+(.+)$", _read(pid, "status"), re.MULTILINE)
    return len(pids[1].split()) if pids else 0


def cut(name: str) -> None:
    """Kill every process of a lab at once, and wait until they and the lab's cgroups are gone."""
    # Processes that entered from outside end by themselves. A machine's first process ends only after all others
    # inside, and one that is just starting may not be tied to its parent yet: so search until there are none.
    remaining = set(_guests(name))

    def is_over() -> bool:
        for pid in _holders(name):
            remaining.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not any(map(is_alive, remaining)) and remove_cgroups(name)

    wait_until(f"{name} ending", is_over)


def end_connections(name: str) -> None:
    """End ssh's shared connections to a lab, which outlive the command that opened them."""

    def is_over() -> bool:
        shared = [pid for pid in all_pids() if command_line(pid).startswith(b"ssh: " + place)]
        for pid in shared:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        return not shared

    place = os.fsencode(STATE / name) + b"/"
    wait_until(f"connections to {name} ending", is_over)


def _guests(name: str) -> list[int]:
    """Processes that entered its mounts from here (ssh's other end): they end when what they wait for does."""
    leader = find_leader(name)
    mounts = mounts_of(leader) if leader else ""
    return [pid for pid in all_pids() if mounts and mounts_of(pid) == mounts]
