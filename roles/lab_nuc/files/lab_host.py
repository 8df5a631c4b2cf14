"""A lab: boot, reboot, cut its power, log in, remove it."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

from lab_common import STATE, LabError, deferred, locked, private_dir, require_room, run, say, uninterrupted, wait_until
from lab_find import adopted_argv, command_line, cut, end_connections, enter_argv, find_leader, find_machine
from lab_machine import cgroups, machine_argv
from lab_rootfs import USER, ensure_rootfs

NEEDED_MB = 300
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")  # a host name, short enough for a socket's path


class Lab:
    """A disposable host by its name. All its state is on the disk and in /proc, so any process may use it."""

    def __init__(self, name: str) -> None:
        """Name a lab, which need not exist; LabError when the name cannot be a host's."""
        if not NAME.fullmatch(name):
            raise LabError(f"LAB={name!r}: a lab's name is 1 to 32 of a-z, 0-9 and inner hyphens")
        self.name = name
        self.state = STATE / name

    @property
    def exists(self) -> bool:
        """Whether it has a disk, running or not."""
        return (self.state / "lab.json").exists()

    def leader(self) -> int | None:
        """PID of its init process; None when it is off."""
        return find_leader(self.name)

    def suite(self) -> str:
        """The Debian suite that it runs."""
        return str(json.loads((self.state / "lab.json").read_text())["suite"])

    def up(self, suite: str, fresh: bool = False, original: "Lab | None" = None) -> bool:
        """Boot it on a clean disk, unless it runs already (then the result is False).

        original: a lab that is off; the disk is a copy of its disk, with an identity of its own. When this fails or is
        interrupted, nothing of the lab stays.
        """
        rootfs = ensure_rootfs(suite)
        if original:
            original.require_copyable(self.name, suite)
        with self._locked():
            if self.leader() and not fresh:
                if self.exists and self.suite() != suite:
                    raise LabError(
                        f"{self.name} runs {self.suite()}: `make lab-down` it first, or use another LAB name"
                    )
                self._wait_running()
                return False
            try:
                self._clear()
                self._make(suite, rootfs)
                if original:
                    self._copy_disk(original)
                self._start()
            except BaseException:
                with uninterrupted():
                    self._clear()
                raise
        return True

    def boot(self) -> None:
        """Power it on again with the disk it had."""
        with self._locked():
            self._require_disk()
            if find_machine(self.name) is None:
                self._start()
            else:
                self._wait_running()

    def kill(self) -> None:
        """Cut its power: every process gets SIGKILL at once; the disk stays. (The page cache survives, as the
        machine around it does: what was written is there, synced or not.)"""
        with self._locked():
            self._require_disk()
            cut(self.name)

    def poweroff(self) -> None:
        """Shut it down cleanly; the disk stays."""
        with self._locked():
            self._require_disk()
            if self.leader():
                self.inside(["systemctl", "poweroff", "--no-block"])
                wait_until(f"{self.name} powering off", lambda: find_machine(self.name) is None)

    def reboot(self) -> None:
        """Restart it from inside and wait until it runs again."""
        before = self.require_leader()
        self.inside(["systemctl", "reboot", "--no-block"])
        wait_until(f"{self.name} restarting", lambda: self.leader() not in (None, before))
        self._wait_running()

    def down(self) -> bool:
        """Remove its processes, mounts, cgroups and files; False when there were none."""
        existed = self.state.exists() or find_machine(self.name) is not None
        if existed or any(branch.exists() for branch in cgroups(self.name)):
            with self._locked(), uninterrupted():
                self._clear()
        return existed

    def inside(self, argv: Sequence[str], timeout: float = 60) -> str:
        """Run a command as root in it, without SSH, and return its stdout. Raises LabError."""
        return run([*self._enter(), *argv], timeout)

    def exec_inside(self, argv: Sequence[str]) -> NoReturn:
        """Replace this process by a root command in it."""
        enter = [*self._enter(), *argv]
        os.execvp(enter[0], enter)

    def connect(self, deadline_s: float = 20) -> NoReturn:
        """Replace this process by an sshd on stdin and stdout, for ssh's ProxyCommand. Waits while the lab restarts."""
        if find_machine(self.name) is None:
            self.require_leader()
        wait_until(f"{self.name} taking logins", self._takes_logins, deadline_s)
        os.execvp("nsenter", adopted_argv(self.require_leader(), ["/usr/sbin/sshd", "-i"]))

    def ssh_argv(self) -> list[str]:
        """An ssh command line that logs in as the operator."""
        self._require_disk()
        options = [word for option in self.ssh_options() for word in ("-o", option)]
        return ["ssh", "-i", str(self.state / "key"), *options, f"{USER}@{self.name}"]

    def ssh_options(self) -> list[str]:
        """ssh's options for this lab: its own keys only, its host key known, no address needed."""
        here = Path(__file__).with_name("lab.py")
        return [
            f'ProxyCommand=/usr/bin/python3 -sE "{here}" connect {self.name}',
            f"UserKnownHostsFile={self.state}/known_hosts",
            "GlobalKnownHostsFile=/dev/null",
            f"HostKeyAlias={self.name}",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
        ]

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self.state, f"another command works on {self.name}: waiting for it")

    def _require_disk(self) -> None:
        if not self.exists:
            raise LabError(f"{self.name} does not exist: `make lab-up LAB={self.name}` makes it")

    def require_leader(self) -> int:
        """PID of its init process; LabError when it is off."""
        self._require_disk()
        leader = self.leader()
        if leader is None:
            raise LabError(f"{self.name} is off: `lab.py boot {self.name}` starts it")
        return leader

    def require_copyable(self, name: str, suite: str) -> None:
        """LabError unless another lab, called `name`, can get a copy of its disk."""
        if name == self.name:
            raise LabError(f"{name} cannot be a copy of itself: name another lab after --copy")
        self._require_disk()
        if self.suite() != suite:
            raise LabError(f"{self.name} runs {self.suite()}, not {suite}: use --suite {self.suite()}")
        if find_machine(self.name) is not None:
            raise LabError(f"{self.name} runs: `lab.py poweroff {self.name}` first")

    def _enter(self) -> list[str]:
        return enter_argv(self.require_leader())

    def _make(self, suite: str, rootfs: Path) -> None:
        require_room(self.state, NEEDED_MB, "HYBRID_LAB_STATE")
        for part in ("upper", "work", "root", "cm"):
            private_dir(self.state / part)
        (self.state / "upper").chmod(0o755)  # it becomes the lab's /
        for key in ("key", "host_key"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(self.state / key)])
        public = (self.state / "host_key.pub").read_text()
        (self.state / "known_hosts").write_text(f"{self.name} {public}")
        facts = {"name": self.name, "suite": suite, "rootfs": str(rootfs)}
        (self.state / "lab.json").write_text(json.dumps(facts))

    def _copy_disk(self, original: "Lab") -> None:
        disk = self.state / "upper"
        run(["cp", "--archive", "--reflink=auto", f"{original.state}/upper/.", str(disk)])
        (disk / "etc/machine-id").unlink()  # it gets an identity where it has no such file
        shutil.rmtree(disk / f"home/{USER}/.ssh")

    def _start(self) -> None:
        machine: subprocess.Popen[bytes] | None = None
        try:
            with (self.state / "console.log").open("w") as log, deferred():
                machine = subprocess.Popen(
                    machine_argv(self.name), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            started = machine
            wait_until(f"{self.name} starting", lambda: bool(self.leader()) or started.poll() is not None)
            self._wait_running(started)
        except BaseException:
            # It may be too young to be found by its command line; its session holds nothing else.
            if machine is not None and machine.poll() is None:
                os.killpg(machine.pid, signal.SIGKILL)
                machine.wait()
            raise

    def _wait_running(self, machine: subprocess.Popen[bytes] | None = None) -> None:
        state = ""

        def is_running() -> bool:
            nonlocal state
            leader = self.leader()
            if leader is None:
                if machine and machine.poll() is not None:
                    lines = (self.state / "console.log").read_text(errors="replace").strip().splitlines()
                    raise LabError(f"{self.name} did not start: {lines[-1] if lines else machine.returncode}")
                return False
            ask = [*enter_argv(leader), "systemctl", "is-system-running"]
            process = subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            state = process.stdout.strip()
            return state in ("running", "degraded")

        wait_until(f"{self.name} booting", is_running)
        if state == "degraded":
            failed = self.inside(["systemctl", "list-units", "--failed", "--plain", "--no-legend"])
            units = " ".join(row.split()[0] for row in failed.splitlines())
            say(f"{self.name} runs, but these units failed: {units}")

    def _takes_logins(self) -> bool:
        """Whether logins are safe: a stop would wait for a login that began after it had started to end processes."""
        leader = self.leader()
        if leader is None or b"systemd-shutdown\0" in command_line(leader):
            return False
        inside = Path(f"/proc/{leader}/root/run")
        return (inside / "sshd").is_dir() and not (inside / "nologin").exists()

    def _clear(self) -> None:
        """Remove everything but the state directory, which holds the lock and is removed with it."""
        cut(self.name)
        end_connections(self.name)
        for entry in self.state.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
