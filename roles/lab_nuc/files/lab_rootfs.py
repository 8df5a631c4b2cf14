"""Build the labs' root file systems, once each, with debootstrap. They are kept outside the checkout."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from lab_common import CACHE, LabError, locked, private_dir, require_room, run, say, uninterrupted

SUITES = ("bookworm", "trixie")
# What a minimal Debian host has, and no more: the deployment installs the rest.
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
)
USER = "operator"
NEEDED_MB = 900
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Runs in the new root. Removes identity (keys, ids, names), which each lab has of its own, timers that need the
# internet, and what systemd would run at each reload to look for disks and init scripts, which a lab does not have.
FINISH = f"""
set -e
useradd --create-home --shell /bin/bash --gid {USER} --password '*' {USER}
echo '{USER} ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/{USER}
chmod 0440 /etc/sudoers.d/{USER}
printf 'PermitRootLogin no\\nPasswordAuthentication no\\n' > /etc/ssh/sshd_config.d/10-lab.conf
systemctl -q disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer
mkdir -p /etc/systemd/system-generators
for kind in cryptsetup debug fstab getty gpt-auto hibernate-resume integritysetup rc-local sysv veritysetup; do
  ln -s /dev/null /etc/systemd/system-generators/systemd-$kind-generator
done
apt-get clean
rm -rf /var/lib/apt/lists/* /var/log/*.log /var/log/apt
rm -f /etc/ssh/ssh_host_*_key* /etc/machine-id /var/lib/dbus/machine-id
rm -f /etc/hostname /etc/hosts /etc/resolv.conf
"""


def rootfs_path(suite: str) -> Path:
    """Path of a suite's root file system, which is named by a digest of its recipe. Raises LabError."""
    if suite not in SUITES:
        raise LabError(f"suite {suite!r} is unknown: LAB_SUITE is one of {', '.join(SUITES)}")
    recipe = "\n".join([suite, *PACKAGES, FINISH])
    return CACHE / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def ensure_rootfs(suite: str) -> Path:
    """Path of the suite's root file system, which is built first if it is missing (about a minute)."""
    target = rootfs_path(suite)
    if target.is_dir():
        return target
    lock = private_dir(CACHE) / f"{target.name}.lock"
    with locked(lock, f"another build of {suite} is under way: waiting for it"):
        if not target.is_dir():
            _build(suite, target)
    return target


def _build(suite: str, target: Path) -> None:
    building = target.with_suffix(".building")
    shutil.rmtree(building, ignore_errors=True)  # of a build that was killed; the lock is ours
    require_room(CACHE, NEEDED_MB, "HYBRID_LAB_CACHE")
    say(f"building the root file system of {suite}: about a minute, once")
    began = time.monotonic()
    try:
        _debootstrap(suite, building)
        run(["chroot", str(building), "/bin/sh", "-c", FINISH])
        building.rename(target)
    except BaseException:
        with uninterrupted():
            shutil.rmtree(building, ignore_errors=True)
        raise
    say(f"{suite} is built: {time.monotonic() - began:.0f} s, kept in {target}")


def _debootstrap(suite: str, target: Path) -> None:
    # In namespaces of its own, so that its mounts and processes end with it, however it ends.
    argv = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    argv += ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    if KEYRING.exists():
        argv.append(f"--keyring={KEYRING}")
    argv += [suite, str(target)]
    mirror = machine_mirror(suite)
    if mirror:
        argv.append(mirror)
        if not Path("/usr/share/debootstrap/scripts", suite).exists():
            argv.append("/usr/share/debootstrap/scripts/sid")  # an older debootstrap than the suite
    environment = {**os.environ, "LC_ALL": "C", "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    for scheme in ("http", "https"):
        proxy = _apt_proxy(scheme)
        if proxy:
            environment.setdefault(f"{scheme}_proxy", proxy)
    last: list[str] = []
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        began = reported = time.monotonic()
        for line in child.stdout:
            last = [*last[-4:], line.strip()]
            now = time.monotonic()
            if now - reported >= 5:
                reported = now
                say(f"{suite}: {now - began:.0f} s, {line.removeprefix('I: ').strip()[:80]}")
        code = child.wait()
    finally:
        child.kill()
        child.wait()
    if code:
        if shutil.disk_usage(CACHE).free < 8 << 20:
            raise LabError(f"{CACHE}: the disk is full: make room or set HYBRID_LAB_CACHE elsewhere")
        raise LabError(f"debootstrap of {suite} failed with {code}: {' / '.join(last)}")


def machine_mirror(suite: str, etc: Path = Path("/etc")) -> str:
    """The Debian mirror that this machine uses, or "" for debootstrap's default."""
    release = (etc / "os-release").read_text()
    host = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', release, re.MULTILINE))
    suites = {suite, host.get("VERSION_CODENAME", "")} if host.get("ID") == "debian" else {suite}
    for uri, offered, components in _apt_sources(etc / "apt"):
        if suites & offered and "main" in components and re.match(r"https?://", uri):
            return uri
    return ""


def _apt_sources(apt: Path) -> Iterator[tuple[str, set[str], set[str]]]:
    """(uri, suites, components) of every binary source, in one-line and deb822 files."""
    for path in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]:
        for line in path.read_text().splitlines() if path.exists() else ():
            match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
            if match:
                yield match[1], {match[2]}, set(match[3].split())
    for path in sorted(apt.glob("sources.list.d/*.sources")):
        text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
        for stanza in re.split(r"\n\s*\n", text):
            pairs = re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", stanza, re.MULTILINE)
            field = {key.lower(): value.split() for key, value in pairs}
            if "deb" in field.get("types", []) and field.get("enabled") != ["no"]:
                for uri in field.get("uris", []):
                    yield uri, set(field.get("suites", [])), set(field.get("components", []))


def _apt_proxy(scheme: str) -> str:
    if not shutil.which("apt-config"):
        return ""
    output = run(["apt-config", "shell", "PROXY", f"Acquire::{scheme}::Proxy"])
    match = re.match(r"PROXY='(\w+://[^']+)'", output)
    return match[1] if match else ""
