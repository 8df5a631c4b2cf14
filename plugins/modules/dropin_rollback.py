"""Roll a drop-in back by name, or restore it: see DOCUMENTATION."""

import datetime
import glob
import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import read_json
from ansible.module_utils.service_changes import (
    Change,
    Problem,
    State,
    await_switch,
    compare,
    make_all,
    report,
    snapshot,
)
from ansible.module_utils.service_unit import UNITS, options_of, rolled_back_folder

DOCUMENTATION = r"""
{"module": "dropin_rollback",
 "short_description": "Roll back a drop-in and remember it, or restore it byte for byte",
 "description": "The marker below /var/lib/hybrid-deploy/rolled-back is what deployments honour. It holds the drop-in.
  Restarting the service is the next task's business, which O(restart) of the result is for.",
 "options": {
  "unit": {"required": true, "description": "The unit, as hybrid-engine.service."},
  "name": {"required": true, "description": "The drop-in, as 40-hardening, with or without .conf."},
  "state": {"choices": ["rolled_back", "restored"], "required": true, "description": "Out, or back."},
  "who": {"default": "", "description": "The user who requested it."}
 }}
"""

RETURN = r"""
path: {type: str, returned: always, description: The drop-in}
restart: {type: bool, returned: always, description: Whether the running process has to be restarted}
rolled_back: {type: list, elements: str, returned: always, description: All drop-ins that are out after this}
"""


def names(folder: str) -> list[str]:
    return sorted(name.removesuffix(".conf") for name in glob.glob("*.conf", root_dir=folder))


def rolled_back(path: str, marker: str, who: str) -> list[State]:
    """The drop-in away, and a marker that holds it."""
    now = snapshot(path)
    if now["kind"] != "file":
        raise Problem(f"{path} is a {now['kind']} where a file belongs: move it away")
    record = {"since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "by": who}
    record |= {"data": now["data"], "mode": now["mode"]}
    text = json.dumps(record, indent=1)
    return [{"path": marker, "kind": "file", "content": text}, {"path": path, "kind": "absent"}]


def restored(path: str, marker: str, present: bool) -> list[State]:
    """The drop-in as the marker holds it, unless another one was installed since, and no marker."""
    record = read_json(marker)
    if present:
        return [{"path": marker, "kind": "absent"}]
    if "data" not in record:
        raise Problem(f"{marker} does not hold the drop-in: remove the marker, and deploy")
    mode = f"{record.get('mode', 0o644):04o}"
    return [{"path": path, "kind": "file", "data": record["data"], "mode": mode}, {"path": marker, "kind": "absent"}]


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options = module.params
    unit, name = options["unit"], options["name"].removesuffix(".conf")
    path = f"{UNITS}/{unit}.d/{name}.conf"
    marker = f"{rolled_back_folder(unit)}/{name}.conf"
    os.umask(0o022)

    present, out = names(f"{UNITS}/{unit}.d"), names(rolled_back_folder(unit))
    away = options["state"] == "rolled_back"
    if "/" in name or name not in {*present, *out}:
        there = f"in force: {', '.join(present) or 'none'}; rolled back: {', '.join(out) or 'none'}"
        module.fail_json(msg=f"{unit} has no drop-in {name!r} ({there})")
    due = name in present if away else name in out
    changes: list[Change] = []
    try:
        if due and not module.check_mode and (other := await_switch(unit)):
            module.warn(f"Waited for the end of a deployment of {unit}, by {other}.")
        if due:
            states = rolled_back(path, marker, options["who"]) if away else restored(path, marker, name in present)
            changes = compare(states)
        if due and not module.check_mode:
            make_all(unit, changes, restart=True, reverts=False)
    except (OSError, ValueError, Problem) as problem:
        module.fail_json(msg=f"{unit}, drop-in {name}: {problem}")
    left = sorted({*out, name}) if away else [each for each in out if each != name]
    shown = report([change for change in changes if change.path == path])
    module.exit_json(changed=due, restart=due, path=path, rolled_back=left, diff=shown["diff"])


if __name__ == "__main__":
    main()
