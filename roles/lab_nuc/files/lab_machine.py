"""The process that runs a lab: mounts its disk, joins its cgroup, runs systemd-nspawn, and again after a reboot.

It is PID 1 of its own PID namespace, with its own mount namespace. The kernel therefore ends all processes and mounts
of the machine when this process is killed, as a power cut would.
"""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from lab_common import STATE, LabError, run

REBOOT = 133  # exit status of systemd-nspawn --keep-unit when the machine inside reboots
RUN_NSPAWN = Path("/run/systemd/nspawn")
CGROUP_PREFIX = "hybrid-engine-lab"


def machine_argv(name: str) -> list[str]:
    """The command that becomes the machine. Its first process is recognised by this command line."""
    here = Path(__file__).with_name("lab.py")
    argv = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += [sys.executable, "-sE", str(here), "_machine", str(STATE / name)]
    if Path("/run/systemd/system").is_dir():
        # Where systemd owns the cgroup tree, ask it for a branch.
        scope = f"--unit={CGROUP_PREFIX}-{name}"
        argv = ["systemd-run", "--quiet", "--scope", "--collect", "--property=Delegate=yes", scope, *argv]
    return argv


def cgroups(name: str) -> list[Path]:
    """The lab's branch in each cgroup tree that systemd uses (unified, and v1's name=systemd).

    Without branches of their own, two labs would see each other's units.
    """
    branches = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(maxsplit=2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            branches.append(Path(fields.split()[4]) / f"{CGROUP_PREFIX}-{name}")
    return branches


def remove_cgroups(name: str) -> bool:
    """Remove the lab's branches, deepest first. False while a process runs in them."""
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
    """Join the cgroup, mount the disk, and run the machine until it is powered off. Returns systemd-nspawn's status."""
    facts = json.loads((state / "lab.json").read_text())
    root = state / "root"
    try:
        if not Path("/run/systemd/system").is_dir():
            for branch in cgroups(facts["name"]):
                branch.mkdir(exist_ok=True)
                (branch / "cgroup.procs").write_text("0")
        # Keeps systemd-nspawn's records in this mount namespace, out of the outer machine's /run.
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
    # Last: its presence means that the rest is done.
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")


def _run_once(root: Path, name: str) -> int:
    argv = ["systemd-nspawn", "--quiet", f"--directory={root}", "--boot", f"--machine={name}"]
    argv += ["--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--console=read-only"]
    argv += ["--private-network", "--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off"]
    # Marks a lab: proofs that edit /etc refuse every host without it.
    argv += [f"--setenv=HYBRID_ENGINE_LAB={name}"]
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    while True:
        pid, status = os.wait()  # also reaps orphans: this is PID 1 here
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status)
