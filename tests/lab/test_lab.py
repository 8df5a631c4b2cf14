"""What a lab promises to whoever deploys to it: a real, clean, private Debian host that survives reboots."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.labs import CHECKOUT, STATE, SUITE, Lab, MakeLab, lab_py, wait_for
from tests.support import programs

pytestmark = pytest.mark.lab
OTHER_SUITE = "trixie" if SUITE == "bookworm" else "bookworm"


def test_boots_to_running_with_no_failed_unit(lab: Lab) -> None:
    assert lab.root("systemctl", "is-system-running").stdout.strip() == "running"
    assert lab.root("systemctl", "list-units", "--failed", "--no-legend").stdout == ""
    assert lab.root("cat", "/proc/1/comm", "/etc/hostname").stdout.split() == ["systemd", lab.name]
    assert f"VERSION_CODENAME={lab.suite}" in lab.root("cat", "/etc/os-release").stdout


def test_operator_logs_in_and_may_sudo(lab: Lab) -> None:
    assert lab.ssh("id -un; sudo -n id -un; hostname").stdout.split() == ["operator", "root", lab.name]


def test_root_may_not_log_in(lab: Lab) -> None:
    process = lab.ssh("true")
    assert process.returncode == 0
    words = lab_py("inventory", lab.name).stdout
    options = words.split(">-\n", 1)[1].strip()
    key = re.search(r"private_key_file: (\S+)", words)
    assert key
    refused = subprocess.run(
        ["sh", "-c", f"ssh -i {key[1]} {options} root@{lab.name} true"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


def test_network_is_loopback_only(lab: Lab) -> None:
    assert re.findall(r"^\d+: (\S+):", lab.root("ip", "-o", "link").stdout, re.MULTILINE) == ["lo"]
    assert "inet 127.0.0.1/8" in lab.root("ip", "-o", "address").stdout
    inside = lab.root("readlink", "/proc/self/ns/net").stdout.strip()
    assert inside != os.readlink("/proc/self/ns/net")


def test_pressure_is_readable_for_the_host_and_for_a_unit(lab: Lab) -> None:
    assert "some avg10=" in lab.root("cat", "/proc/pressure/cpu").stdout
    mounts = lab.root("cat", "/proc/self/mountinfo").stdout
    result = re.search(r" (/sys/fs/cgroup\S*) [^\n]* - cgroup2 ", mounts)
    assert result
    unit = f"{result[1]}/system.slice/systemd-journald.service"
    assert "some avg10=" in lab.root("cat", f"{unit}/memory.pressure").stdout


def test_transient_unit_runs_sandboxed_and_returns_its_status(lab: Lab) -> None:
    sandbox = ["-p", "DynamicUser=yes", "-p", "PrivateDevices=yes", "-p", "SystemCallFilter=@system-service"]
    argv = ["systemd-run", "--quiet", "--wait", "--pipe", *sandbox]
    process = lab.root(*argv, "sh", "-c", "grep Seccomp: /proc/self/status; exit 7", check=False)
    assert (process.returncode, process.stdout.split()) == (7, ["Seccomp:", "2"])


def test_ansible_reaches_it_by_both_inventories(lab: Lab) -> None:
    ansible = str(Path(sys.executable).with_name("ansible"))
    for words, environment in ((["-i", str(lab.inventory)], {}), ([], {"LAB": lab.name})):
        process = subprocess.run(
            [ansible, *words, "nuc", "-b", "-m", "ansible.builtin.command", "-a", "cat /etc/hostname"],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.stdout.split()[-1:] == [lab.name], process.stdout + process.stderr


def test_reboot_keeps_the_disk_with_an_open_session(lab: Lab) -> None:
    lab.ssh("echo kept | sudo tee /var/lib/kept && sync")
    boot_id = lab.root("cat", "/proc/sys/kernel/random/boot_id").stdout
    guest = [sys.executable, str(CHECKOUT / "roles/lab_nuc/files/lab.py"), "ssh", lab.name]
    with programs.start([*guest, "--", "echo in; exec sleep 600"], stdout=subprocess.PIPE) as session:
        assert session.stdout
        assert session.stdout.readline() == "in\n"
        began = time.monotonic()
        lab_py("reboot", lab.name)
        assert time.monotonic() - began < 9  # a shutdown that waits for a session does so for 10 s, or for 90
        assert session.wait(timeout=10) == 255
    assert lab.ssh("cat /var/lib/kept").stdout == "kept\n"
    assert lab.root("cat", "/proc/sys/kernel/random/boot_id").stdout != boot_id
    assert lab.root("systemctl", "is-system-running").stdout.strip() == "running"


def test_reboot_from_inside_boots_again(lab: Lab) -> None:
    before = lab.pid()
    began = time.monotonic()
    lab.ssh("sudo systemctl reboot", check=False)
    wait_for("the lab restarting", lambda: lab_py("pid", lab.name, check=False).stdout.strip() not in ("", f"{before}"))
    assert time.monotonic() - began < 9
    assert lab.ssh("id -un").stdout == "operator\n"


def test_power_cut_keeps_the_disk(lab: Lab) -> None:
    lab.root("systemd-run", "--unit=victim", "sleep", "600")
    victim = int(lab.root("systemctl", "show", "--value", "-p", "MainPID", "victim").stdout)
    assert victim > 0
    lab.root("sh", "-c", "echo kept > /var/lib/kept")
    init = lab.pid()
    lab.kill()
    assert not Path(f"/proc/{init}").exists() or Path(f"/proc/{init}/stat").read_text().split()[2] == "Z"
    refused = lab.ssh("true", check=False)
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (
        255,
        f"lab: error: {lab.name} is off: `lab.py boot {lab.name}` starts it",
    )
    lab.boot()
    assert lab.root("cat", "/var/lib/kept").stdout == "kept\n"
    assert lab.root("systemctl", "is-active", "victim", check=False).stdout.strip() == "inactive"


def test_two_labs_side_by_side_share_nothing(lab: Lab, make_lab: MakeLab) -> None:
    other = make_lab()
    both = (lab, other)
    assert len({each.root("cat", "/etc/machine-id").stdout for each in both}) == 2
    assert len({each.root("cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.split()[1] for each in both}) == 2
    for each in both:
        each.root("systemd-run", "--unit=probe", "sleep", "600")
    paths = {unit_cgroup(each, "probe") for each in both}
    assert len(paths) == 2
    for path in paths:  # the same unit name, and one process of its own in each
        assert len((path / "cgroup.procs").read_text().split()) == 1
    lab.root("systemctl", "kill", "--signal=KILL", "probe")
    wait_for("the unit ending", lambda: lab.root("systemctl", "is-active", "probe", check=False).returncode)
    assert other.root("systemctl", "is-active", "probe").stdout.strip() == "active"
    lab.root("touch", "/only-here")
    assert other.root("ls", "/only-here", check=False).returncode == 2
    other.down()
    assert lab.ssh("systemctl is-active ssh").stdout == "active\n"


@pytest.mark.parametrize(
    ("copy", "suite", "why"),
    [
        ("{lab}", SUITE, "{lab} runs: `lab.py poweroff {lab}` first"),
        ("{lab}", OTHER_SUITE, f"{{lab}} runs {SUITE}, not {OTHER_SUITE}: use --suite {SUITE}"),
        ("no-such-lab", SUITE, "no-such-lab does not exist: `make lab-up LAB=no-such-lab` makes it"),
        ("../etc", SUITE, "LAB='../etc': a lab's name is 1 to 32 of a-z, 0-9 and inner hyphens"),
    ],
)
def test_copy_is_refused(lab: Lab, lab_names: Callable[[], str], copy: str, suite: str, why: str) -> None:
    name = lab_names()
    result = lab_py("up", name, "--suite", suite, "--copy", copy.format(lab=lab.name), check=False)
    assert (result.returncode, result.stderr) == (1, f"lab: error: {why.format(lab=lab.name)}\n")
    assert not (STATE / name).exists()


def test_copy_of_itself_is_refused_and_keeps_the_disk(lab: Lab) -> None:
    lab_py("poweroff", lab.name)
    result = lab_py("up", lab.name, "--suite", lab.suite, "--copy", lab.name, check=False)
    assert "cannot be a copy of itself" in result.stderr
    lab.boot()


def test_copy_has_the_files_and_an_identity_of_its_own(lab: Lab, make_lab: MakeLab) -> None:
    lab.root("sh", "-c", "echo kept > /var/lib/copied; rm /etc/issue; rm -r /etc/skel; mkdir /etc/skel")
    lab_py("poweroff", lab.name)
    other = make_lab(suite=lab.suite, copy=lab.name)
    lab.boot()
    assert other.root("cat", "/var/lib/copied", "/etc/hostname").stdout.split() == ["kept", other.name]
    assert other.root("ls", "/etc/issue", check=False).returncode == 2
    assert other.root("ls", "-A", "/etc/skel").stdout == ""
    for path in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"):
        assert lab.root("cat", path).stdout != other.root("cat", path).stdout
    assert other.ssh("hostname").stdout == f"{other.name}\n"
    other.down()


def unit_cgroup(lab: Lab, unit: str) -> Path:
    """A unit's cgroup2 directory as the machine outside sees it."""
    mounts = Path("/proc/self/mountinfo").read_text()
    result = re.search(r" (/sys/fs/cgroup\S*) [^\n]* - cgroup2 ", mounts)
    assert result
    init = next(line for line in Path(f"/proc/{lab.pid()}/cgroup").read_text().split() if line.startswith("0::"))
    branch = init.removeprefix("0::/").removesuffix("/init.scope")
    return Path(result[1], branch, "system.slice", f"{unit}.service")


def test_up_is_idempotent_and_fresh_is_clean(lab: Lab) -> None:
    lab.root("touch", "/marked")
    before = lab.pid()
    assert lab_py("up", lab.name, "--suite", lab.suite).stdout == f"{lab.name}: was running ({lab.suite})\n"
    assert lab.pid() == before
    lab_py("up", lab.name, "--suite", lab.suite, "--fresh")
    assert lab.root("ls", "/marked", check=False).returncode == 2
    assert lab.ssh("id -un").stdout == "operator\n"
