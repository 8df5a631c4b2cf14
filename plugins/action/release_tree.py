"""Run the module of the same name, and send the archive only where the module needs contents."""

import os
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """The host's side compares first: an unchanged release costs one call and no transfer.

    So it does not count as one that transfers files, for which a directory would be made on the host beforehand,
    in check mode too.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        archive = args.pop("archive", None)
        result |= self._execute_module(module_args=args, task_vars=task_vars)
        if result.get("need_archive") and not result.get("failed"):
            shell = self._connection._shell
            created = not shell.tmpdir
            place = self._make_tmp_path() if created else shell.tmpdir
            remote = self._transfer_file(archive, shell.join_path(place, os.path.basename(archive)))
            self._fixup_perms2((place, remote))
            result |= self._execute_module(module_args={**args, "archive": remote}, task_vars=task_vars)
            self._remove_tmp_path(place)
        return result
