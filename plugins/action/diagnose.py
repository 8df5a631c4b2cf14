"""Fetch everything about a host that is looked at when something is wrong, as one file.

Runs shell commands there, and names each part as it begins. What is missing is no failure; credentials are left out.
dest: the file to write on the controller, in a directory of the host's name.
Returns dest; missing: what the host did not show.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

sys.path.append(str(Path(__file__).parents[2]))

from plugins.module_utils.host_action import HostAction
from proofs.evidence import folder
from proofs.host import diagnose

LOST_S = 120.0  # for how long a connection that broke is tried again
LATE_S = 30  # that a look may take longer than the host was asked to let it


class ActionModule(HostAction):
    """The report is made here, from the output of commands there."""

    _VALID_ARGS = frozenset({"dest"})

    def act(self) -> dict[str, Any]:
        dest = Path(self.args["dest"])
        text, missing = diagnose.report(
            self._output, lambda part: Display().display(f"  [{self.host}] {part}"), self.host
        )
        if dest.parent.name != self.host:
            raise folder.FolderError(f"{dest} is not in a directory of {self.host}")
        folder.write_new_file(dest.parents[1], self.host, dest.name, text.encode(errors="backslashreplace"))
        return {"dest": str(dest), "missing": missing}

    def _output(self, shell: str, seconds: float) -> diagnose.Output:
        words = shlex.join(["timeout", f"{seconds:g}", "sh", "-c", diagnose.words(shell)])
        answer = self.ask_again(words, seconds + LATE_S, diagnose.MOST_CHARACTERS, LOST_S)
        return diagnose.Output(answer.rc, answer.stdout)
