"""Run the module of the same name with what only the controller knows: user, host name and checkout.

The history is read here: what the host holds is checked before it is shown or written to a file.
"""

import getpass
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))

from plugins.module_utils.host_action import HostAction
from proofs.evidence import host_input

Entry = dict[str, Any]  # a line of the history, with "line": its number
COLUMNS = ("line", "when", "what", "outcome", "by", "release", "config", "changed")
MAX_REASON = 400  # characters
MAX_CELL = 160


def requesting_user() -> str:
    """The user who runs the command; with sudo, the one who called it."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user that no file knows
        return str(os.getuid())


def revision(checkout: Path) -> str:
    """The checkout's commit, with "-dirty" where files were changed since; empty outside git."""
    argv = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        process = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""


def table(history: Sequence[Entry], unreadable: Sequence[int]) -> str:
    """The history for people: a line each, and below one that failed, why."""
    rows = [COLUMNS, *(_cells(entry) for entry in history)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines: list[str] = []
    for row, entry in zip(rows, [{}, *history], strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
        if entry.get("why"):
            lines.append(f"{'':{widths[0]}}  {host_input.printable(entry['why'], MAX_REASON)}")
    if not history:
        lines = ["nothing was ever deployed here, or before the history began"]
    if unreadable:
        lines.append(f"not readable, left by a power cut: line {', '.join(map(str, unreadable))}")
    return "\n".join(lines)


def _cells(entry: Entry) -> tuple[str, ...]:
    changed = [str(change) for change in entry.get("changed") or []]
    shown = ", ".join(change.rpartition("/")[2] if change.startswith("/") else change for change in changed[:3])
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    who = f"{entry.get('by') or '?'}@{entry.get('from') or '?'} as {entry.get('ssh_user') or '?'}"
    cells = (
        str(entry["line"]),
        f"{entry['when'][:19]}Z",
        " ".join(str(entry[key]) for key in ("what", "of") if entry.get(key)),
        str(entry.get("outcome") or "?"),
        who,
        str(entry.get("release") or "none"),
        str(entry.get("config_digest") or "none")[:12],
        shown + more,
    )
    return tuple(host_input.printable(cell, MAX_CELL) for cell in cells)


class ActionModule(HostAction):
    consequence = "its history is not shown"

    def act(self) -> dict[str, Any]:
        if self.args.get("state") == "read":
            return self._history(str(self.args["path"]))
        if self._task.check_mode:
            return {}
        checkout = Path(self.task_vars.get("playbook_dir", ".")).parent
        more = {"by": requesting_user(), "origin": socket.gethostname(), "revision": revision(checkout)}
        return dict(self._execute_module(module_args={**self.args, **more}, task_vars=self.task_vars))

    def _history(self, path: str) -> dict[str, Any]:
        most = host_input.HISTORY_BYTES + 1
        file = shlex.quote(path)
        # A link is no history: -f alone would follow it.
        text = self.read(f"[ -L {file} ] || [ ! -f {file} ] || head -c {most} {file} | base64", 2 * most)
        entries, unreadable = host_input.parse_history(host_input.decode_base64(text))
        return {"entries": entries, "unreadable": unreadable, "table": table(entries, unreadable)}
