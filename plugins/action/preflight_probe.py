"""Have a host say what it is: see the module of the same name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

CHECKOUT = Path(__file__).parents[2]
if str(CHECKOUT) not in sys.path:
    sys.path.append(str(CHECKOUT))

from proofs.evidence import host_input  # noqa: E402


class ActionModule(ActionBase):  # type: ignore[misc]
    """Needs a shell there and nothing else. A host that answers something else has given no answer, and why."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        result |= {"changed": False, "lines": [], "summary": ""}
        try:
            answer = host_input.ask(lambda: self._low_level_execute_command(self._task.args["script"]))
            return result | {"lines": host_input.parse_probe(answer.stdout), "summary": answer.summary}
        except host_input.HostInputError as error:
            return result | {"refused": str(error)}
