"""Run a shell script on a host that prints KEY=value lines, and check each of them.

A value that its key cannot have makes all of it refused. Changes nothing there.
script: the script.
Returns lines; summary: all that it printed, in one line; refused: why, where the answer is refused.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))

from plugins.module_utils.host_action import HostAction
from proofs.evidence import host_input


class ActionModule(HostAction):
    """A host that answers something else has given no answer, and why."""

    _VALID_ARGS = frozenset({"script"})

    def act(self) -> dict[str, Any]:
        try:
            answer = self.ask(self.args["script"])
            return {"lines": host_input.parse_probe(answer.stdout), "summary": answer.summary}
        except host_input.HostInputError as error:
            return {"lines": [], "summary": "", "refused": str(error)}
