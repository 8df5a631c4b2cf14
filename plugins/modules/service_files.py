"""Install all files of a service as one change that can be reverted: see DOCUMENTATION."""

import contextlib
import glob
import os
import shutil
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.adoption import (
    DECIDING,
    adopted_dropins,
    adopted_file,
    adopted_record,
    foreign_dropins,
    give_back,
    is_recorded,
    read_adopted,
)
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import DEPLOYED, UNRECORDED, read_json, read_text
from ansible.module_utils.service_changes import (
    Problem,
    State,
    await_switch,
    compare,
    deployed_record,
    forget_formers,
    make_all,
    put_former,
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
  by name stays out, and is reported. With O(adopt), a service of others that stands there is taken over: what is
  replaced is kept for good, and O(state=returned) brings it back.",
 "options": {
  "unit": {"required": true, "description": "The unit, as hybrid-engine.service."},
  "state": {"choices": ["present", "reverted", "returned"], "default": "present",
   "description": "Install; take an unfinished change back; or put back what was taken over from others."},
  "adopt": {"type": "bool", "default": false, "description": "Whether a service of others is taken over."},
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
adopts: {type: bool, returned: state is present, description: A service of others is taken over}
deciding: {type: list, elements: str, returned: state is present,
 description: "Of unmanaged, those that decide what runs, each with the setting"}
former: {type: dict, returned: not when reverted, description: "{active, enabled} of what was there before"}
problems: {type: list, elements: str, returned: when reverted, description: What could not be put back}
unrecorded: {type: dict, returned: state is present,
 description: "{unit, when, changed} of an earlier change that was cut off before the history had it"}
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
    # First: whatever is cut off after this is a deployment's, and nobody else's.
    return [deployed_record(options["unit"], states, rolled_back, whole=whole), *states]


def returned(unit: str, module: AnsibleModule) -> None:
    """Put back the service that a deployment took over."""
    record = read_adopted(unit)
    if not record:
        module.fail_json(msg=f"{unit} was not taken over from anybody: {adopted_file(unit)} has no record of it")
    former = {key: bool(record.get(key)) for key in ("active", "enabled")}
    try:
        paths = sorted(record["states"]) if module.check_mode else give_back(unit)
    except (OSError, Problem) as problem:
        module.fail_json(msg=f"{unit}: {problem}")
    module.exit_json(changed=True, paths=paths, former=former)


def revert(unit: str, module: AnsibleModule) -> None:
    """Put everything back that the unfinished change replaced."""
    before, problems = read_json(transaction_file(unit)).get("before", {}), []
    if not module.check_mode:
        for path, state in reversed(list(before.items())):
            try:
                put_former(path, state)
            except OSError as problem:  # the others are put back all the same
                problems.append(f"{path} could not be put back: {problem.strerror}")
        forget_formers(before)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(transaction_file(unit))
        if before.get(f"{UNITS}/{unit}", {}).get("kind") == "absent":
            shutil.rmtree(f"{UNITS}/{unit}.d", ignore_errors=True)
    module.exit_json(changed=bool(before), paths=sorted(before), problems=problems)


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options, unit = module.params, module.params["unit"]
    os.umask(0o022)
    if options["state"] == "reverted":
        revert(unit, module)
    if options["state"] == "returned":
        returned(unit, module)
    markers = sorted(glob.glob(f"{rolled_back_folder(unit)}/*.conf"))
    rolled_back = {os.path.basename(path)[: -len(".conf")]: read_json(path) for path in markers}
    try:
        if not module.check_mode and (other := await_switch(unit)):
            module.warn(f"Waited for the end of another deployment of {unit}, by {other}.")
        states = desired(options, list(rolled_back))
        pending, shown = read_json(transaction_file(unit)), show(unit)
        adopts = options["adopt"] and not is_recorded(unit)
        if options["content"] is not None:
            states += adopted_dropins(unit, states, pending.get("before", {}), adopts=adopts)
        changes = compare(states)
        if adopts and any(change.now["kind"] != "absent" for change in changes):
            changes = [*compare([adopted_record(unit, changes, states)]), *changes]
        # Also where an earlier run of this was cut off.
        before = {change.path: change.now for change in changes} | pending.get("before", {})
        adopts = before.get(adopted_file(unit), {}).get("kind") == "absent"
        # Owner and mode concern the next start; contents, links and kinds concern the process that runs.
        restart = any(
            change.desired["kind"] != "directory"
            and "record" not in change.desired
            and not change.how.startswith(("owner", "mode"))
            for change in changes
        )
        if changes and not module.check_mode:
            make_all(unit, changes, restart)
        # They change the unit and this deployment does not name them: left alone, and reported.
        leaves = options["content"] is not None and not adopts
        unmanaged = foreign_dropins(shown, unit, [str(each["path"]) for each in states]) if leaves else []
    except (OSError, Problem) as problem:
        module.fail_json(msg=f"{unit}: {problem}")
    module.exit_json(
        changed=bool(changes),
        # What a candidate would have to show: owners, modes and the record cannot break a service that runs.
        matters=restart,
        restart=restart or pending.get("restart", False),
        pending=bool(pending),
        unrecorded=read_json(UNRECORDED),
        rolled_back=[{"name": name, **marker} for name, marker in rolled_back.items()],
        beside=sorted(name.removesuffix(".json") for name in glob.glob("*.json", root_dir=DEPLOYED)),
        adopts=adopts,
        former={
            "active": shown.get("ActiveState") == "active",
            "enabled": shown.get("UnitFileState") == "enabled",
        },
        unmanaged=unmanaged,
        deciding=[
            f"{path} sets {match[1]}=" for path in unmanaged for match in [DECIDING.search(read_text(path))] if match
        ],
        **report(changes),
    )


if __name__ == "__main__":
    main()
