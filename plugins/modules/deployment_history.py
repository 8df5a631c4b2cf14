"""Append an entry to the host's history of deployments, or read the history: see DOCUMENTATION."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import UNRECORDED, open_regular, read_link
from ansible.module_utils.service_unit import options_of, redacted, run

DOCUMENTATION = r"""
{"module": "deployment_history",
 "short_description": "Append what was done to a host to its history, one JSON object a line, or read it",
 "description": "An entry is written in one piece, at the end, and is on the disk when this returns. A power cut costs
  at most the entry that was being written; readers skip it. The controller's side (the action plugin of the same name)
  adds who asked for it, and from which checkout. It also reads the history, checks every line of it, and makes the
  table. Never reports a change, because it is the record of one. In check mode nothing is written.",
 "options": {
  "path": {"type": "path", "required": true,
   "description": "The history, as /var/log/hybrid-engine/deployments.jsonl."},
  "state": {"choices": ["appended", "read"], "default": "appended", "description": "Write a line, or read all."},
  "what": {"default": "deploy", "description": "deploy, rollback, restore, uninstall"},
  "of": {"default": "", "description": "What it was done to, where that is not everything: a drop-in, a release."},
  "outcome": {"default": "done", "description": "done, refused, taken back, failed, cut off"},
  "changed": {"type": "list", "elements": "str", "default": [],
   "description": "What was changed, each as 'path (how)'."},
  "tried": {"default": "", "description": "The release that did not stay."},
  "why": {"default": "", "description": "Why it did not."},
  "root": {"type": "path", "default": "", "description": "Holds current, which says what is in force now."},
  "digest": {"type": "list", "elements": "str", "default": [],
   "description": "Command whose last word is the config's digest."},
  "by": {"default": "", "description": "Added by the controller."},
  "origin": {"default": "", "description": "Added by the controller: its name."},
  "revision": {"default": "", "description": "Added by the controller: of its checkout."}
 }}
"""

RETURN = r"""
entries: {type: list, elements: dict, returned: state is read, description: "The lines, the oldest first"}
table: {type: str, returned: state is read, description: The same for people}
"""
MAX_CHANGES = 40  # changes that a line lists
MAX_REASON = 400  # characters
LOCK = ".deployments.lock"  # beside the history, which anybody may read: who can open a file can lock it
LOCKED_S = 10.0
RETRY_S = 0.05
RESERVED = 16384  # bytes behind the last line


class HistoryHeld(OSError):
    """Another process writes to the history for too long; the message says where."""


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Hold the history's lock, which only root can open. Raises HistoryHeld after LOCKED_S, other OSErrors."""
    status = os.lstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise OSError(errno.EPERM, "others can write to this directory: give it to root, with mode 0755", folder)
    path = os.path.join(folder, LOCK)
    handle = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        os.fchmod(handle, 0o600)
        deadline = time.monotonic() + LOCKED_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise HistoryHeld(
                        f"another deployment has held {path} for more than {LOCKED_S:g} s: let it end, or end it"
                    ) from None
            time.sleep(RETRY_S)
        yield
    finally:
        os.close(handle)


def append(path: str, line: bytes) -> None:
    """Append a line whole, and have it on the disk. Raises OSError, and adds nothing, where that is not possible."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    with locked(folder):
        _append(path, line)


def _append(path: str, line: bytes) -> None:
    folder = os.path.dirname(path)
    handle = open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        partial = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        data = (b"\n" if partial else b"") + line + b"\n"
        try:
            if os.write(handle, data) != len(data):
                raise OSError(f"no room for a line in {path}")
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
        # Room for the next lines: a deployment that fails because the disk is full has its line all the same.
        reserve = ("--keep-size", "--offset", str(size + len(data)), "--length", str(RESERVED))
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            run("fallocate", *reserve, path)
    finally:
        os.close(handle)
    upper = os.open(folder, os.O_RDONLY)
    os.fsync(upper)
    os.close(upper)


def caller() -> tuple[str, str | None]:
    """The user who logged in to this host for it, and the address it came from, as far as this host knows.

    sudo clears the environment, so the environment of the parent processes is read.
    """
    user, address = os.environ.get("SUDO_USER", ""), None
    process = os.getppid()
    for _ in range(12):
        try:
            with open(f"/proc/{process}/environ", "rb") as stream:
                environ = dict(e.split("=", 1) for e in stream.read().decode(errors="replace").split("\0") if "=" in e)
            with open(f"/proc/{process}/stat", "rb") as stream:
                process = int(stream.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError):
            break
        connection = environ.get("SSH_CONNECTION", "").split()
        if connection and address is None:
            address = connection[0] if connection[0] != "UNKNOWN" else None
            user = user or environ.get("USER", "")
    return user or pwd.getpwuid(os.getuid()).pw_name, address


def reason(message: str) -> str:
    """Why something failed, in one line, without the journal lines that a message may end with."""
    lines = message.partition("Its last lines:")[0].splitlines()
    return "; ".join(redacted(line.strip()) for line in lines if line.strip() and not line.startswith("{"))[:MAX_REASON]


def in_force(options: dict[str, Any]) -> tuple[str | None, str | None]:
    """The live release and the digest of its configuration; None for what is unknown."""
    release = os.path.basename(read_link(os.path.join(options["root"], "current")))
    if not release:
        return None, None
    try:
        version = run(*options["digest"]) if options["digest"] else None
    except (OSError, subprocess.SubprocessError):
        version = None
    lines = version.stdout.split() if version is not None and version.returncode == 0 else []
    return release, lines[-1] if lines else None


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options = module.params
    path = options["path"]
    try:
        if module.check_mode:
            module.exit_json(changed=False)
        os.umask(0o022)
        user, address = caller()
        release, digest = in_force(options)
        changed = options["changed"]
        if len(changed) > MAX_CHANGES:
            changed = [*changed[:MAX_CHANGES], f"and {len(changed) - MAX_CHANGES} more"]
        entry = {
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **{key: options[key] for key in ("what", "of", "outcome", "by")},
            "ssh_user": user,
            "from": options["origin"],
            "address": address,
            "revision": options["revision"],
            "release": release,
            "config_digest": digest,
            "changed": [redacted(change) for change in changed],
            "tried": options["tried"],
            "why": reason(options["why"]),
        }
        append(path, json.dumps({key: value for key, value in entry.items() if value != ""}).encode())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(UNRECORDED)
    except OSError as problem:
        module.fail_json(msg=f"The change was made, but could not be recorded in the history: {problem}")
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
