"""What the action plugins share that put questions to a host: each answer is checked before it is used.

They bring nothing to the host and need no Python there, only a shell. They have no module beside them.
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from proofs.evidence import folder, host_input

READ_S = 600.0  # over a bad line


class HostAction(ActionBase):  # type: ignore[misc]
    """A task whose `act` does the work. `consequence`: what an answer that is refused means, beside a failed task."""

    consequence = "nothing was written"
    args: Mapping[str, Any]
    task_vars: Mapping[str, Any]
    host: str

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.args, self.task_vars = self._task.args, task_vars or {}
        self.host = str(self.task_vars.get("inventory_hostname", ""))
        try:
            return result | {"changed": False} | self.act()
        except host_input.HostInputError as error:
            raise AnsibleActionFail(f"{self.host}: {error}; {self.consequence}") from None
        except folder.FolderError as error:
            raise AnsibleActionFail(f"{error}; nothing was written") from None

    def act(self) -> dict[str, Any]:
        """The task's result. Raises HostInputError, FolderError."""
        raise NotImplementedError

    def ask(
        self,
        shell: str,
        seconds: float = host_input.ANSWER_S,
        largest: int = host_input.ANSWER_BYTES,
        stdin: bytes | None = None,
    ) -> host_input.Answer:
        """Run a shell text on the host. Raises HostInputError where the answer takes longer, or is larger."""
        return host_input.ask(lambda: self._low_level_execute_command(shell, in_data=stdin), seconds, largest)

    def read(self, shell: str, largest: int) -> str:
        """What a shell text prints, apart from what a terminal or sudo print around it. Raises HostInputError."""
        return host_input.unmark(self.ask(host_input.marked(shell), READ_S, largest).stdout)
