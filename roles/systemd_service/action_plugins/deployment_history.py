"""Run the module of the same name with what only the controller knows: who asks, from where, and which checkout."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase


def asking() -> str:
    """The user whose command this is; the one who said sudo, where somebody did."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user that no file knows
        return str(os.getuid())


def revision(checkout: Path) -> str:
    """The checkout's commit, "-dirty" where it was changed since; empty where it is none."""
    argv = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class ActionModule(ActionBase):  # type: ignore[misc]
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        if args.get("state", "appended") == "appended":
            if self._task.check_mode:
                return result | {"changed": False}
            checkout = Path((task_vars or {}).get("playbook_dir", ".")).parent
            args |= {"by": asking(), "origin": socket.gethostname(), "revision": revision(checkout)}
        result |= self._execute_module(module_args=args, task_vars=task_vars)
        return result
