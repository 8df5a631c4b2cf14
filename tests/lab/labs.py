"""A disposable NUC as a test sees it: booted, logged in to, rebooted, unplugged, taken down."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
LAB_PY = CHECKOUT / "roles/lab_nuc/files/lab.py"
PAYLOAD_CACHE = CHECKOUT / "tests/lab/payload_cache"
STATE = Path(os.environ.get("HYBRID_LAB_STATE", "/var/lib/hybrid-engine-lab"))
SUITE = os.environ.get("LAB_SUITE") or "bookworm"

# To enter a lab within this process: a `lab.py exec` for every command is a fifth of a second of CPU more.
sys.path.append(str(LAB_PY.parent))
from lab_find import enter_argv, find_leader  # noqa: E402

Result = subprocess.CompletedProcess[str]


def lab_py(*words: str, check: bool = True, timeout: float = 600, env: Mapping[str, str] | None = None) -> Result:
    """Run a command of lab.py to its end; AssertionError with what it told when it fails."""
    return _run([sys.executable, str(LAB_PY), *words], check, timeout, env)


def wait_for(what: str, ready: Callable[[], object], deadline_s: float = 30) -> None:
    """Wait until `ready()` is true; AssertionError that names `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        began = time.monotonic()
        if ready():
            return
        now = time.monotonic()
        assert now < end, f"{what}: not within {deadline_s} s"
        time.sleep(max(0.01, now - began))  # whoever is waited for needs the CPU as well


@dataclass(frozen=True)
class Lab:
    """A running lab. `inventory` is a file with it as the only host of group nuc, named `name`."""

    name: str
    suite: str
    inventory: Path

    def ssh(self, command: str, check: bool = True, timeout: float = 120) -> Result:
        """Run a shell command as the operator, who may sudo, through a new ssh connection."""
        return lab_py("ssh", self.name, "--", command, check=check, timeout=timeout)

    def root(self, *argv: str, check: bool = True, timeout: float = 120) -> Result:
        """Run a command as root without ssh, which is quicker."""
        leader = find_leader(self.name)
        enter = (
            enter_argv(leader) if leader else [sys.executable, str(LAB_PY), "exec", self.name, "--"]
        )  # which tells why
        return _run([*enter, *argv], check, timeout, None)

    def ansible(self, playbook: str, *words: str, check: bool = True, timeout: float = 600, **variables: str) -> Result:
        """Run a playbook of playbooks/ against it; `variables` go into the environment."""
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.inventory)]
        argv += [f"playbooks/{playbook}", *words]
        return _run(argv, check, timeout, {"ANSIBLE_NOCOLOR": "1", "PYTHONPATH": str(PAYLOAD_CACHE), **variables})

    def pid(self) -> int:
        """Its init process, as seen from outside: its files are at /proc/PID/root."""
        leader = find_leader(self.name)
        assert leader, f"{self.name} is off"
        return leader

    def reboot(self) -> None:
        """Restart it from inside; its disk stays."""
        lab_py("reboot", self.name)

    def kill(self) -> None:
        """Cut its power; its disk stays."""
        lab_py("kill", self.name)

    def boot(self) -> None:
        """Power it on again."""
        lab_py("boot", self.name)

    def down(self) -> None:
        """Leave nothing of it."""
        lab_py("down", self.name)


MakeLab = Callable[..., Lab]
"""make_lab(suite="trixie") -> Lab: another clean lab, removed at the session's end. make_lab(proofs=True): one with
engine and proofs on its disk, as the playbooks put them there. make_lab(copy=NAME): a copy of another one, which is
off."""


def _run(argv: list[str], check: bool, timeout: float, env: Mapping[str, str] | None) -> Result:
    process = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=CHECKOUT,
        env={**os.environ, **(env or {})},
    )
    output = f"{' '.join(argv)}: exit {process.returncode}\n{process.stdout}{process.stderr}"
    assert not check or process.returncode == 0, output
    return process
