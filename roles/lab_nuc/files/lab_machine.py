"""The process that *is* a lab: it holds the disk, the cgroup and systemd-nspawn, and starts it again on reboot.

It runs as PID 1 of a PID namespace and in a mount namespace of its own. So the kernel itself promises that
nothing outlives it: kill it, and the machine with all its processes and mounts is gone, like a power cut.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

from lab_common import STATE, LabError, run

REBOOT = 133  # how systemd-nspawn --keep-unit says that the machine inside wants to start again
RUN_NSPAWN = Path("/run/systemd/nspawn")
CGROUP_PREFIX = "hybrid-engine-lab"


def machine_argv(name: str) -> list[str]:
    """The command that becomes the machine; its first process is found again by this very command line."""
    here = Path(__file__).with_name("lab.py")
    namespaces = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv = [*namespaces, sys.executable, "-sE", str(here), "_machine", str(STATE / name)]
    if Path("/run/systemd/system").is_dir():
        # Where systemd owns the cgroup tree, it is asked for a branch instead of growing one beside it.
        scope = f"--unit={CGROUP_PREFIX}-{name}"
        argv = ["systemd-run", "--quiet", "--scope", "--collect", "--property=Delegate=yes", scope, *argv]
    return argv


def find_machine(name: str) -> int | None:
    """PID of the lab's outermost process, or None when the lab is off. Looked up, never stored: PIDs are reused."""
    needle = b"\0_machine\0" + os.fsencode(STATE / name) + b"\0"
    for pid in all_pids():
        line = command_line(pid)
        if line.startswith(b"unshare\0") and line.endswith(needle):
            with suppress(OSError):  # it may be gone by now
                if os.stat(f"/proc/{pid}").st_uid == 0:
                    return pid
    return None


def find_leader(name: str) -> int | None:
    """PID, as seen from here, of the init process inside the lab; None while it is off or between two boots."""
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


def all_pids() -> list[int]:
    """Every process there is."""
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def command_line(pid: int) -> bytes:
    """A process's arguments, each ended by a zero byte; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def mounts_of(pid: int) -> str:
    """The mount namespace a process lives in; empty when it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    """Whether a process still runs: a zombie, which only waits to be collected, does not."""
    return mounts_of(pid) != ""


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _depth(pid: int) -> int:
    """How many PID namespaces deep a process is; 0 when it is gone."""
    try:
        found = re.search(r"^NSpid:\s+(.+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return len(found[1].split()) if found else 0


def cgroups(name: str) -> list[Path]:
    """Where the lab's own branch is in each tree that systemd uses (unified, and v1's name=systemd).

    Without a branch each, two labs would share one and see each other's units in it.
    """
    branches = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(maxsplit=2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            branches.append(Path(fields.split()[4]) / f"{CGROUP_PREFIX}-{name}")
    return branches


def remove_cgroups(name: str) -> None:
    """Remove the lab's branches, deepest first; the kernel allows it once nothing runs in them."""
    for branch in cgroups(name):
        for folder, _, _ in os.walk(branch, topdown=False):
            os.rmdir(folder)


def be_machine(state: Path) -> int:
    """Mount the disk, join the cgroup, run the machine until it is powered off; return systemd-nspawn's status."""
    facts = json.loads((state / "lab.json").read_text())
    root = state / "root"
    try:
        if not Path("/run/systemd/system").is_dir():
            for branch in cgroups(facts["name"]):
                branch.mkdir(exist_ok=True)
                (branch / "cgroup.procs").write_text("0")
        # systemd-nspawn's own records stay in here too, instead of in the machine's /run.
        RUN_NSPAWN.mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(RUN_NSPAWN)])
        layers = f"lowerdir={facts['rootfs']},upperdir={state}/upper,workdir={state}/work"
        run(["mount", "-t", "overlay", "-o", layers, "overlay", str(root)])
        if not (root / "etc/machine-id").exists():
            _give_identity(root, state, facts["name"])
        while True:
            status = _run_once(root, facts["name"])
            if status != REBOOT:
                return status
    except (LabError, OSError) as error:
        print(f"lab: {error}", flush=True)
        return 1


def _give_identity(root: Path, state: Path, name: str) -> None:
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost\n")
    for suffix, mode in (("", 0o600), (".pub", 0o644)):
        key = root / f"etc/ssh/ssh_host_ed25519_key{suffix}"
        key.write_bytes((state / f"host_key{suffix}").read_bytes())
        key.chmod(mode)
    home = root / "home/operator"
    owner = home.stat()
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    keys = ssh / "authorized_keys"
    keys.write_bytes((state / "key.pub").read_bytes())
    keys.chmod(0o600)
    for path in (ssh, keys):
        os.chown(path, owner.st_uid, owner.st_gid)
    # Last, because its presence says that the rest is done.
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")


def _run_once(root: Path, name: str) -> int:
    argv = ["systemd-nspawn", "--quiet", f"--directory={root}", "--boot", f"--machine={name}"]
    argv += ["--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--console=read-only"]
    argv += ["--private-network", "--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off"]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    while True:
        pid, status = os.wait()  # also what its children leave behind: this is PID 1 here
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status)
