"""Run a shell script on a host that prints KEY=value lines, and check each of them.

A value that its key cannot have makes all of it refused. Changes nothing there.
script: the script; settings: whether the variables of the host are looked at as well, on the controller.
Returns lines; summary: all that it printed, in one line; refused: why, where the answer is refused; unknown: sentences
about variables that are nearly settings.
"""

import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

sys.path.append(str(Path(__file__).parents[2]))

from plugins.module_utils.host_action import HostAction
from plugins.module_utils.setting_names import CONSTANTS, read_own_names, read_settings, unknown_names
from proofs.evidence import host_input


class ActionModule(HostAction):
    """A host that answers something else has given no answer, and why."""

    _VALID_ARGS = frozenset({"script", "settings"})

    def act(self) -> dict[str, Any]:
        unknown = []
        if boolean(self.args.get("settings", False)):
            # Of the inventory, the command line, and of plays before this one.
            names = set(self.task_vars["hostvars"][self.host])
            unknown = unknown_names(names & CONSTANTS.keys() | names - read_own_names(), read_settings())
        try:
            answer = self.ask(self.args["script"])
            return {"lines": host_input.parse_probe(answer.stdout), "summary": answer.summary, "unknown": unknown}
        except host_input.HostInputError as error:
            return {"lines": [], "summary": "", "refused": str(error), "unknown": unknown}
