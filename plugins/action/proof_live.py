"""Ask a host what is live on it: see the module of the same name."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

CHECKOUT = Path(__file__).parents[2]
if str(CHECKOUT) not in sys.path:
    sys.path.append(str(CHECKOUT))

from proofs.evidence import host_input  # noqa: E402

UNKNOWN = dict.fromkeys(("release_digest", "config_digest", "machine_id"), "unknown")


class ActionModule(ActionBase):  # type: ignore[misc]
    """A host that cannot tell is no failure here: the signing compares with nothing then, and says so."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        argv, host = [self._task.args["program"], "live"], (task_vars or {}).get("inventory_hostname", "")
        try:
            answer = host_input.ask(lambda: self._low_level_execute_command(shlex.join(argv)))
            lines = answer.stdout.strip().splitlines()
            live = host_input.parse_live(lines[-1] if lines else "") if answer.rc == 0 else UNKNOWN
        except host_input.HostInputError as error:
            raise AnsibleActionFail(f"{host}: {error}; nothing was signed") from None
        return result | {"changed": False, **live}
