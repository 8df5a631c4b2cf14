"""Have a host say what `hybrid-proofs diagnose` asks: see the module of the same name."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

CHECKOUT = Path(__file__).parents[3]


class ActionModule(ActionBase):  # type: ignore[misc]
    """The report is made here, of what shell commands say there; nothing is brought to the host."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if str(CHECKOUT) not in sys.path:
            sys.path.append(str(CHECKOUT))
        from proofs import diagnose

        host, dest = str((task_vars or {})["inventory_hostname"]), Path(self._task.args["dest"])

        def run(shell: str, seconds: float) -> diagnose.Said:
            said = self._low_level_execute_command(
                shlex.join(["timeout", f"{seconds:g}", "sh", "-c", diagnose.words(shell)])
            )
            # sudo's terminal ends lines its own way
            return diagnose.Said(said["rc"], said["stdout"].replace("\r\n", "\n"))

        text, missing = diagnose.report(run, lambda part: Display().display(f"  [{host}] {part}"), host)
        try:
            diagnose.write(dest, text)
        except OSError as error:
            raise AnsibleActionFail(f"{dest}: {error.strerror}") from error
        return result | {"changed": False, "dest": str(dest), "missing": missing}
