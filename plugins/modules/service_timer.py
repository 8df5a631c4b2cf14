"""Keep a timer and the service it starts as described: see DOCUMENTATION."""

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import read_json
from ansible.module_utils.service_changes import (
    Change,
    Problem,
    State,
    compare,
    deployed_record,
    make,
    note_unrecorded,
    present_dropins,
    put,
    report,
    unit_states,
)
from ansible.module_utils.service_unit import UNITS, Refused, deployed_file, journal, judge, options_of, run, show

DOCUMENTATION = r"""
{"module": "service_timer",
 "short_description": "Install a timer, the service it starts and what that runs, enabled and tried once",
 "description": "Compares and replaces contents, owner and mode of every file; touches nothing where all is as
  described. Before anything is replaced the service has to pass C(systemd-analyze verify) and stay below O(exposure).
  What was changed is tried at once. Where it fails, everything is put back as it was. O(state=absent) takes out the
  timer, the service and every file of an earlier call; what the service wrote stays.",
 "options": {
  "name": {"required": true, "description": "What NAME.timer and NAME.service are called."},
  "state": {"choices": ["present", "absent"], "default": "present", "description": "Whether they should be there."},
  "timer": {"required": true, "description": "The timer's text."},
  "service": {"required": true, "description": "The service's text."},
  "dropins": {"type": "list", "elements": "dict", "default": [],
   "description": "{name, content, state} each, of the service"},
  "files": {"type": "list", "elements": "dict", "default": [],
   "description": "{path, content, owner, group, mode, state, restart: a unit that reads it only at its start} each"},
  "exposure": {"type": "float", "description": "Highest exposure allowed, from 0.0 to 10.0."},
  "attempt": {"type": "bool", "default": true,
   "description": "Start the service once after a change. Where it fails it stays out."}
 }}
"""

RETURN = r"""
paths: {type: list, elements: str, returned: always, description: "What differed, each with how"}
due: {type: list, elements: str, returned: always, description: What was to be done with the units}
"""


def desired(options: dict[str, Any]) -> list[State]:
    """Everything that should be there or not, in the order in which it is made."""
    timer, service = f"{options['name']}.timer", f"{options['name']}.service"
    states = [{**each, "kind": "absent" if each.get("state") == "absent" else "file"} for each in options["files"]]
    states += unit_states(service, options["service"], options["dropins"]) + unit_states(timer, options["timer"], [])
    if options["state"] == "absent":
        states = [{**each, "kind": "absent"} for each in states if each["kind"] != "directory"]
    # What an earlier call installed, and this one does not name.
    former = set(read_json(deployed_file(timer)).get("files", {})) - {each["path"] for each in states}
    states += [{"path": path, "kind": "absent"} for path in sorted(former)]
    return [*states, deployed_record(timer, states, whole=True)]


def apply(name: str, changes: Sequence[Change], due: Sequence[str]) -> list[str]:
    """Make the changes and have systemd use them; what went wrong, in lines (none, as a rule)."""
    try:
        note_unrecorded(f"{name}.timer", changes)
        for change in changes:
            make(change)
    except OSError as problem:
        return [f"{problem.filename or name}: {problem.strerror}"]
    commands = [["restart", change.desired["restart"]] for change in changes if "restart" in change.desired]
    commands += [["daemon-reload"]] if due else []
    commands += [["enable", "--now", f"{name}.timer"]] if "start" in due else []
    commands += [["restart", f"{name}.timer"]] if "restart" in due else []
    commands += [["start", f"{name}.service"]] if "try" in due else []
    for argv in commands:
        process = run("systemctl", *argv, timeout=120)
        if process.returncode != 0:
            lines = journal(f"{name}.service", "", 15) if argv[0] == "start" else []
            return [f"systemctl {' '.join(argv)}: {process.stderr.strip()}", *lines]
    return []


def undo(name: str, changes: Sequence[Change]) -> None:
    """Put everything back as it was."""
    for change in reversed(changes):
        with contextlib.suppress(OSError):  # the others are put back all the same
            put(change.path, change.now)
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", f"{name}.service")
    for unit in [change.desired["restart"] for change in changes if "restart" in change.desired]:
        run("systemctl", "restart", unit)
    if not os.path.exists(f"{UNITS}/{name}.timer"):
        forget(name, [f"{UNITS}/timers.target.wants/{name}.timer"])


def forget(name: str, links: Sequence[str] = ()) -> None:
    """Stop units whose files were removed, and have systemd forget them."""
    for unit in (f"{name}.timer", f"{name}.service"):
        run("systemctl", "stop", unit)
    for path in links:
        with contextlib.suppress(OSError):
            os.unlink(path)
    with contextlib.suppress(OSError):  # it holds drop-ins of others
        os.rmdir(f"{UNITS}/{name}.service.d")
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", f"{name}.service")


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options, name = module.params, module.params["name"]
    timer, service = f"{name}.timer", f"{name}.service"
    os.umask(0o022)
    try:
        changes = compare(desired(options))
        touched = [
            change.path
            for change in changes
            if "record" not in change.desired and change.desired["kind"] != "directory"
        ]
        due = due_of(options, touched, {unit: show(unit) for unit in (timer, service)})
        if changes and options["state"] == "present":
            programs = [each["path"] for each in options["files"]]
            judge(service, options["service"], present_dropins(options["dropins"]), options["exposure"], programs)
        if (changes or due) and not module.check_mode:
            if options["state"] == "absent":
                run("systemctl", "disable", "--now", timer)
            problems = apply(name, changes, due)
            if problems:
                undo(name, changes)
                module.fail_json(msg="\n".join([*problems, "What was there before is back."]))
            if options["state"] == "absent":
                forget(name)
    except (OSError, Problem, Refused) as problem:
        module.fail_json(msg=f"{name}: {problem}")
    module.exit_json(changed=bool(changes or due), due=due, **report(changes))


def due_of(options: dict[str, Any], touched: list[str], states: dict[str, dict[str, str]]) -> list[str]:
    """What has to be done with the units, whatever came of an earlier call."""
    timer = states[f"{options['name']}.timer"]
    if options["state"] == "absent":
        return ["stop"] if timer.get("LoadState") == "loaded" else []
    due = ["reload systemd"] if any(state.get("NeedDaemonReload") == "yes" for state in states.values()) else []
    if timer.get("UnitFileState") != "enabled" or timer.get("ActiveState") != "active":
        due.append("start")
    elif f"{UNITS}/{options['name']}.timer" in touched:
        due.append("restart")
    return due + (["try" if options["attempt"] else "reload systemd"] if touched else [])


if __name__ == "__main__":
    main()
