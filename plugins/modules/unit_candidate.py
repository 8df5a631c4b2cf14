"""Check a unit, and run it beside the one that it is to replace: see DOCUMENTATION."""

import fcntl
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import read_text
from ansible.module_utils.service_changes import present_dropins
from ansible.module_utils.service_unit import (
    RUN_UNITS,
    Refused,
    group_id,
    journal,
    judge,
    options_of,
    run,
    show,
    user_id,
    wait_until_healthy,
    write_unit,
)

DOCUMENTATION = r"""
{"module": "unit_candidate",
 "short_description": "Put a rendered unit through systemd's own checks, and run it under another name with scratch
  state",
 "description": "C(systemd-analyze verify) exits 0 on unknown keys and only prints, so anything it prints fails this
  task. So does an exposure in C(systemd-analyze security) above O(exposure), measured with all drop-ins, also those
  rolled back: the threshold binds what is deployed; a rollback is somebody's decision on this host. The candidate
  exists below /run only, and whatever happens nothing of it is left. In O(exec), O(check) and O(health), C({files}) is
  the directory with its files and C({state}) the one it may write to. A change is never reported, because none stays.
  In check mode nothing is started.",
 "options": {
  "unit": {"required": true, "description": "The unit it stands for, as hybrid-engine.service."},
  "content": {"required": true, "description": "The unit file's text."},
  "dropins": {"type": "list", "elements": "dict", "default": [], "description": "{name, content, state} each"},
  "rolled_back": {"type": "list", "elements": "str", "default": [],
   "description": "Names of drop-ins that the candidate runs without."},
  "unmanaged": {"type": "list", "elements": "path", "default": [],
   "description": "Drop-ins on the host that no deployment knows, with which the service will run, and the candidate."},
  "exposure": {"type": "float", "description": "Highest exposure allowed, from 0.0 to 10.0. Without it any is."},
  "programs": {"type": "list", "elements": "str", "default": [],
   "description": "Programs that this deployment is about to install, so that they may be missing now."},
  "files": {"type": "dict", "default": {}, "description": "{name: text} of what goes into {files}"},
  "user": {"default": "root", "description": "The service's user."},
  "group": {"default": "root", "description": "The service's group."},
  "exec": {"type": "list", "elements": "str", "default": [],
   "description": "What it runs instead of ExecStart=. Without it none runs."},
  "check": {"type": "list", "elements": "str", "default": [],
   "description": "A command that must exit 0 before it is started."},
  "health": {"type": "list", "elements": "str", "default": [],
   "description": "A command that exits 0 when it is healthy."},
  "deadline_s": {"type": "float", "default": 45, "description": "Seconds until it must be healthy."},
  "settle_s": {"type": "float", "default": 2, "description": "Seconds for which it must stay so."},
  "watchdog_s": {"type": "float", "default": 0,
   "description": "Where the unit has WatchdogSec=, what it is here; 0 leaves it."}
 }}
"""

RETURN = r"""
verdict: {type: str, returned: always, description: "healthy, unhealthy, refused (by check) or skipped"}
why: {type: str, returned: always, description: What was wrong}
journal: {type: list, elements: str, returned: always, description: Its last lines where it was unhealthy}
"""


class BusyError(Exception):
    """Another deployment has its candidate; the message says whose."""


@contextmanager
def hold_lock(path: str, wait_s: float = 0.0) -> Iterator[str]:
    """One deployment at a time has a candidate: a second one would remove the first one's. Raises BusyError, OSError.

    wait_s: for how long its end is waited for, also that of one whose controller was killed. Gives who was waited for.

    The lock ends with its holder, however that ends, and nobody else can open it. Its file is removed at the end, so
    one that was waited for may be gone when it is locked: then there is another.
    """
    end, waited = time.monotonic() + wait_s, ""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip() or "a deployment that has just begun"
            os.close(handle)
            if time.monotonic() >= end:
                raise BusyError(holder) from None
            waited = holder
            time.sleep(0.2)
            continue
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.lstat(path)):
                break
        os.close(handle)
    try:
        os.ftruncate(handle, 0)
        who = os.environ.get("SUDO_USER") or "root"
        os.write(handle, f"{who}, process {os.getpid()}, since {time.strftime('%FT%TZ', time.gmtime())}".encode())
        yield waited
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.close(handle)


class Candidate:
    """The unit under another name, and its scratch directories."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.stem = options["unit"].removesuffix(".service") + "-candidate"
        self.unit = f"{self.stem}.service"
        self.home = f"/run/{self.stem}"
        self.files, self.state = f"{self.home}/etc", f"{self.home}/state"
        dropins = present_dropins(options["dropins"]).items()
        foreign = {os.path.basename(path).removesuffix(".conf"): read_text(path) for path in options["unmanaged"]}
        self.dropins = foreign | {name: text for name, text in dropins if name not in options["rolled_back"]}

    def command(self, words: list[str]) -> list[str]:
        return [word.replace("{files}", self.files).replace("{state}", self.state) for word in words]

    def remove(self) -> None:
        """Leave nothing of it: also what an earlier deploy left that was killed."""
        path = f"{RUN_UNITS}/{self.unit}"
        known = os.path.exists(path) or show(self.unit).get("ActiveState") not in ("inactive", None)
        if known:
            run("systemctl", "stop", self.unit)
        # Not shutil.rmtree: it has a limit of depth, and the candidate may have written to its state.
        run("rm", "-rf", "--one-file-system", "--", f"{path}.d", self.home)
        if os.path.exists(path):
            os.unlink(path)
        if known:
            run("systemctl", "daemon-reload")
            run("systemctl", "reset-failed", self.unit)

    def place(self) -> None:
        """Write its unit, its drop-ins and its files."""
        user, group = user_id(self.options["user"]), group_id(self.options["group"])
        if user is None or group is None:
            raise OSError(f"there is no user {self.options['user']} with group {self.options['group']}")
        for folder, mode, owner in ((self.home, 0o755, 0), (self.files, 0o750, 0), (self.state, 0o750, user)):
            os.mkdir(folder)
            os.chown(folder, owner, group)
            os.chmod(folder, mode)
        for name, text in self.options["files"].items():
            path = os.path.join(self.files, name)
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(text)
            os.chown(path, 0, group)
            os.chmod(path, 0o640)
        dropins = {**self.dropins, "zzzz-candidate": self.own()}
        write_unit(RUN_UNITS, self.unit, self.options["content"], dropins)

    def watchdog(self) -> str:
        """A shorter watchdog than the unit will have, so that a missing ping is detected while the candidate runs."""
        texts = [self.options["content"], *self.dropins.values()]
        watched = any("\nWatchdogSec=" in text for text in texts)
        return f"WatchdogSec={self.options['watchdog_s']:g}\n" if watched and self.options["watchdog_s"] else ""

    def own(self) -> str:
        """The one drop-in that the real service does not have."""
        words = " ".join(shlex.quote(word) for word in self.command(self.options["exec"]))
        return (
            f"[Unit]\nDescription=Candidate of {self.options['unit']}\n[Service]\n"
            f"ExecStart=\nExecStart={words}\nWorkingDirectory={self.state}\n"
            f"StateDirectory=\nReadWritePaths={self.state}\nRestart=no\nTimeoutStopSec=2\n{self.watchdog()}"
            # It ends by itself if this module does not end it.
            f"RuntimeMaxSec={self.options['deadline_s'] + self.options['settle_s'] + 60:g}\n"
        )


def try_out(candidate: Candidate) -> tuple[str, str, list[str]]:
    """The verdict on a candidate, why, and its last lines where it was unhealthy; nothing is left of it."""
    options = candidate.options
    try:
        candidate.remove()
        candidate.place()
        who = {"user": options["user"], "group": options["group"], "extra_groups": [], "cwd": "/"}
        if options["check"]:
            process = run(*candidate.command(options["check"]), **who)
            if process.returncode != 0:
                return "refused", (process.stderr.strip() or process.stdout.strip())[-800:], []
        run("systemctl", "daemon-reload")
        began = time.time()
        run("systemctl", "start", "--no-block", candidate.unit)
        health = candidate.command(options["health"])
        state = wait_until_healthy(candidate.unit, health, options["deadline_s"], options["settle_s"], **who)
        if not state["healthy"]:
            return "unhealthy", state["why"], journal(candidate.unit, state.get("InvocationID", ""), 20, began)
        return "healthy", "", []
    except (OSError, subprocess.SubprocessError) as problem:
        return "unhealthy", str(problem), []
    finally:
        candidate.remove()


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options = module.params
    os.umask(0o022)
    dropins = present_dropins(options["dropins"])
    try:
        judge(options["unit"], options["content"], dropins, options["exposure"], options["programs"])
    except Refused as refused:
        module.fail_json(msg=str(refused))
    if module.check_mode or not options["exec"]:
        module.exit_json(changed=False, verdict="skipped", why="", journal=[])
    candidate = Candidate(options)
    try:
        wait_s = options["deadline_s"] + options["settle_s"] + 60
        with hold_lock(f"/run/{options['unit']}.deployment-lock", wait_s) as other:
            if other:
                module.warn(f"Waited for the candidate of another deployment of {options['unit']}: {other}.")
            verdict, why, lines = try_out(candidate)
    except BusyError as busy:
        module.fail_json(
            msg=f"Another deployment tries its candidate of {options['unit']}: {busy}. Nothing was replaced."
        )
    except OSError as problem:
        verdict, why, lines = "unhealthy", str(problem), []
    why = why.replace(f"{candidate.files}/", "")
    module.exit_json(changed=False, verdict=verdict, why=why, journal=lines)


if __name__ == "__main__":
    main()
