"""Install all files of a service as one change that can be reverted: see DOCUMENTATION."""

import contextlib
import glob
import os
import shutil
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import DEPLOYED, read_json
from ansible.module_utils.service_changes import (
    Problem,
    State,
    compare,
    deployed_record,
    make_all,
    put,
    report,
    unit_states,
)
from ansible.module_utils.service_unit import UNITS, options_of, rolled_back_folder, show, transaction_file

DOCUMENTATION = r"""
{"module": "service_files",
 "short_description": "Install a unit, its drop-ins, its files and links as one change that can be taken back",
 "description": "Compares and replaces contents, owner and mode of every file named. In check mode it only says what it
  would do, which is the same list. What it replaces is kept under /run/hybrid-deploy until the service is healthy (see
  M(service_run)); O(state=reverted) puts all of it back, also what was not there before. A drop-in that was rolled back
  by name stays out, and is reported.",
 "options": {
  "unit": {"required": true, "description": "The unit, as hybrid-engine.service."},
  "state": {"choices": ["present", "reverted"], "default": "present", "description": "Install, or take back."},
  "content": {"description": "The unit file's text. Without it the unit and its drop-ins are left as they are."},
  "dropins": {"type": "list", "elements": "dict", "default": [],
   "description": "{name, content, state: present|absent} each"},
  "files": {"type": "list", "elements": "dict", "default": [],
   "description": "{path, content, owner, group, mode} each"},
  "directories": {"type": "list", "elements": "dict", "default": [], "description": "{path, owner, group, mode} each"},
  "links": {"type": "list", "elements": "dict", "default": [], "description": "{path, target} each"}
 }}
"""

RETURN = r"""
beside: {type: list, elements: str, returned: always, description: Units that were deployed to this host}
paths: {type: list, elements: str, returned: always, description: "What differs, each with how"}
matters: {type: bool, returned: always, description: Something differs that the service reads}
restart: {type: bool, returned: always, description: The running process does not know what is installed}
rolled_back: {type: list, elements: dict, returned: always, description: Drop-ins that stay out, and since when}
unmanaged: {type: list, elements: str, returned: always, description: Drop-ins in force that are not listed}
pending: {type: bool, returned: always, description: An earlier change was not finished}
"""


def desired(options: dict[str, Any], rolled_back: Sequence[str]) -> list[State]:
    """Everything that should be there (or should not), in the order in which it is made."""
    states: list[State] = [{"kind": "directory", "mode": "0755", **each} for each in options["directories"]]
    whole = options["content"] is not None
    if whole:
        states += unit_states(options["unit"], options["content"], options["dropins"], rolled_back)
    states += [{"kind": "file", **each} for each in options["files"]]
    states += [{"kind": "link", **each} for each in options["links"]]
    return [*states, deployed_record(options["unit"], states, rolled_back, whole=whole)]


def unmanaged(unit: str, states: Sequence[State]) -> list[str]:
    """Drop-ins that change the unit and that this deployment does not name. They are left alone, and reported."""
    known = {each["path"] for each in states}
    in_force = set(show(unit).get("DropInPaths", "").split())
    in_force |= set(glob.glob(f"{UNITS}/{unit}.d/*.conf"))
    # A distribution's own drop-ins for all services are its business.
    return sorted(path for path in in_force - known if f"/{unit}.d/" in path)


def revert(unit: str, module: AnsibleModule) -> None:
    """Put everything back that the unfinished change replaced."""
    before = read_json(transaction_file(unit)).get("before", {})
    if not module.check_mode:
        for path, state in reversed(list(before.items())):
            put(path, state)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(transaction_file(unit))
        if before.get(f"{UNITS}/{unit}", {}).get("kind") == "absent":
            shutil.rmtree(f"{UNITS}/{unit}.d", ignore_errors=True)
    module.exit_json(changed=bool(before), paths=sorted(before))


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options, unit = module.params, module.params["unit"]
    os.umask(0o022)
    if options["state"] == "reverted":
        revert(unit, module)
    markers = sorted(glob.glob(f"{rolled_back_folder(unit)}/*.conf"))
    rolled_back = {os.path.basename(path)[: -len(".conf")]: read_json(path) for path in markers}
    try:
        states = desired(options, list(rolled_back))
        pending = read_json(transaction_file(unit))
        changes = compare(states)
        # Owner and mode concern the next start; contents, links and kinds concern the process that runs.
        restart = any(
            change.desired["kind"] != "directory"
            and "record" not in change.desired
            and not change.how.startswith(("owner", "mode"))
            for change in changes
        )
        if changes and not module.check_mode:
            make_all(unit, changes, restart)
    except (OSError, Problem) as problem:
        module.fail_json(msg=f"{unit}: {problem}")
    module.exit_json(
        changed=bool(changes),
        # What a candidate would have to show: owners, modes and the record cannot break a service that runs.
        matters=restart,
        restart=restart or pending.get("restart", False),
        pending=bool(pending),
        rolled_back=[{"name": name, **marker} for name, marker in rolled_back.items()],
        beside=sorted(name.removesuffix(".json") for name in glob.glob("*.json", root_dir=DEPLOYED)),
        unmanaged=unmanaged(unit, states) if options["content"] is not None else [],
        **report(changes),
    )


if __name__ == "__main__":
    main()
