"""Have a host say what `hybrid-proofs diagnose` asks: see the module of the same name."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

CHECKOUT = Path(__file__).parents[2]
if str(CHECKOUT) not in sys.path:
    sys.path.append(str(CHECKOUT))

from proofs.evidence import folder, host_input  # noqa: E402
from proofs.host import diagnose  # noqa: E402

LATE_S = 30  # that a look may take longer than the host was asked to let it


class ActionModule(ActionBase):  # type: ignore[misc]
    """The report is made here, of what shell commands say there; nothing is brought to the host."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        host, dest = str((task_vars or {})["inventory_hostname"]), Path(self._task.args["dest"])

        def run(shell: str, seconds: float) -> diagnose.Output:
            words = shlex.join(["timeout", f"{seconds:g}", "sh", "-c", diagnose.words(shell)])
            answer = host_input.ask(
                lambda: self._low_level_execute_command(words), seconds + LATE_S, diagnose.MOST_CHARACTERS
            )
            return diagnose.Output(answer.rc, answer.stdout)

        try:
            text, missing = diagnose.report(run, lambda part: Display().display(f"  [{host}] {part}"), host)
            if dest.parent.name != host:
                raise folder.FolderError(f"{dest} is not in a directory of {host}")
            content = text.encode(errors="backslashreplace")
            folder.write_new_file(dest.parents[1], host, dest.name, content)
        except host_input.HostInputError as error:
            raise AnsibleActionFail(f"{host}: {error}; nothing was written") from None
        except folder.FolderError as error:
            raise AnsibleActionFail(str(error)) from None
        return result | {"changed": False, "dest": str(dest), "missing": missing}
