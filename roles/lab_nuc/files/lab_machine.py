"""The process that *is* a lab: it holds the disk, the cgroup and systemd-nspawn,
and starts it again on reboot.

It runs as PID 1 of a PID namespace and in a mount namespace of its own. So the kernel itself promises that
nothing outlives it: kill it, and the machine with all its processes and mounts is gone, like a power cut.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from lab_common import STATE, LabError, run

REBOOT = 133  # how systemd-nspawn --keep-unit says that the machine inside wants to start again
RUN_NSPAWN = Path("/run/systemd/nspawn")
CGROUP_PREFIX = "hybrid-engine-lab"


def machine_argv(name: str) -> list[str]:
    """The command that becomes the machine; its first process is found again by this very command line."""
    here = Path(__file__).with_name("lab.py")
    argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    argv += [sys.executable, "-sE", str(here), "_machine", str(STATE / name)]
    if Path("/run/systemd/system").is_dir():
        # Where systemd owns the cgroup tree, it is asked for a branch instead of growing one beside it.
        scope = f"--unit={CGROUP_PREFIX}-{name}"
        argv = ["systemd-run", "--quiet", "--scope", "--collect", "--property=Delegate=yes", scope, *argv]
    return argv


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


def remove_cgroups(name: str) -> bool:
    """Remove the lab's branches, deepest first; False while something still runs in them."""
    for branch in cgroups(name):
        for folder, _, _ in os.walk(branch, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                return False
    return True


def be_machine(state: Path) -> int:
    """Join the cgroup, mount the disk, run the machine until it is powered off; systemd-nspawn's status."""
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
    # That it may be broken for good: asked for by what must never be done to a host that somebody depends on.
    argv += [f"--setenv=HYBRID_ENGINE_LAB={name}"]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    while True:
        pid, status = os.wait()  # also what its children leave behind: this is PID 1 here
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status)
