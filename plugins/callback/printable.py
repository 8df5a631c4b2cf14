"""Ansible's usual output, without what a terminal would take for a command.

A host has a say in messages, task names, items, diffs and warnings. Escape sequences, other control characters and
marks that turn the direction of text are shown as escapes; colours are Ansible's own.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).parents[2]))

from proofs.evidence import host_input

DOCUMENTATION = """
name: printable
type: stdout
short_description: The default output, printable
description: The default output in which nothing of a host can move a cursor.
extends_documentation_fragment: [default_callback, result_format_callback]
"""


class _Coloured(str):
    """Text that is printable but for Ansible's own colours."""

    __slots__ = ()


class CallbackModule(Default):  # type: ignore[misc]
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "printable"

    def __init__(self) -> None:
        super().__init__()
        self._of_ansible = False
        display = Display.display  # of errors and warnings too, which no callback sees

        @wraps(display)
        def show(screen: Any, msg: str, *args: Any, **options: Any) -> None:
            if not (self._of_ansible or isinstance(msg, _Coloured)):
                msg = _printable(msg)
            display(screen, msg, *args, **options)

        Display.display = show

    def _get_diff(self, difflist: Any) -> str:
        diffs = difflist if isinstance(difflist, list) else [difflist]
        return _Coloured(super()._get_diff([{key: _printable(value) for key, value in diff.items()} for diff in diffs]))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Of an argument that does not validate, what is wrong with it and not the whole specification."""
        if "argument_errors" in result._result:
            for key in ("argument_spec_data", "validate_args_context", "argument_errors"):
                result._result.pop(key, None)
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        with self._own_text():
            super().v2_playbook_on_stats(stats)

    @contextmanager
    def _own_text(self) -> Iterator[None]:
        """Meanwhile only names of the inventory and counts are shown, in colours."""
        self._of_ansible = True
        try:
            yield
        finally:
            self._of_ansible = False


def _printable(value: Any) -> Any:
    """The same for every text in it. A mapping that is shown as a diff stays one."""
    if isinstance(value, str):
        text = value.replace("\r\n", "\n")
        return host_input.printable(text, len(text), keep="\n\t")
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value
