"""What the action plugins share that put questions to a host: each answer is checked before it is used.

They bring nothing to the host and need no Python there, only a shell. They have no module beside them.
"""

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from proofs.evidence import folder, host_input

READ_S = 600.0  # over a bad line
RETRY_S = 2.0


class HostLost(AnsibleActionFail):  # type: ignore[misc]
    """No question got an answer for as long as one waits for that."""


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
        begun = host_input.mark_begin(shell)
        return host_input.ask(lambda: self._low_level_execute_command(begun, in_data=stdin), seconds, largest)

    def ask_again(
        self, shell: str, seconds: float, largest: int, lost_s: float, stdin: bytes | None = None
    ) -> host_input.Answer:
        """As `ask`, for a question that may be put twice: over a connection that breaks, until one holds.

        Raises HostLost where none did for `lost_s` seconds, and says meanwhile that it is tried.
        """
        lost_at = 0.0
        while True:
            asked_at = time.monotonic()
            try:
                answer = self.ask(shell, seconds, largest, stdin)
            except (AnsibleConnectionFailure, host_input.AnswerTimeoutError) as error:
                if lost_s <= 0:
                    raise
                why = host_input.printable(str(error), host_input.LINE)
                if not lost_at:
                    lost_at = asked_at
                    Display().display(f"  {self.host}: connection lost, trying again for {lost_s:g} s: {why}")
                if time.monotonic() - lost_at > lost_s:
                    raise HostLost(f"{self.host} cannot be reached for {lost_s:g} s: {why}") from error
                time.sleep(RETRY_S)
                self._connection.reset()  # what the connections share is as dead as they are
                continue
            if lost_at:
                Display().display(f"  {self.host}: connected again after {time.monotonic() - lost_at:.0f} s")
            return answer

    def make_words(self) -> list[str]:
        """How `make` is told of this inventory, for the commands that are suggested."""
        return [f"INVENTORY={source}" for source in map(str, self.task_vars.get("ansible_inventory_sources", []))]

    def read(self, shell: str, largest: int, lost_s: float = 0.0) -> str:
        """What a shell text prints, apart from what a terminal or sudo print around it. Raises HostInputError.

        lost_s: as of `ask_again`.
        """
        return host_input.unmark(self.ask_again(host_input.marked(shell), READ_S, largest, lost_s).stdout)
