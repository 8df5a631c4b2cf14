"""A service that a timer starts, kept as described in one call: see DOCUMENTATION."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service_paths import Change, Problem, difference, make, put_back, snapshot, text_of
from ansible.module_utils.service_unit import UNITS, deployed_file, journal, load_json, run, show
from ansible.module_utils.unit_judge import Refused, judge

DOCUMENTATION = r"""
module: service_timer
short_description: Install a timer, the service it starts and what that runs, enabled and tried once
description:
  - Compares and replaces contents, owner and mode of every file; touches nothing where all is as described.
  - Before anything is replaced the service has to pass C(systemd-analyze verify) and stay below O(exposure). What was
    changed is tried at once. Where it fails, everything is put back as it was.
  - O(state=absent) takes out the timer, the service and every file of an earlier call; what the service wrote stays.
options:
  name: {type: str, required: true, description: "What NAME.timer and NAME.service are called."}
  state: {type: str, choices: [present, absent], default: present, description: Whether they should be there.}
  timer: {type: str, required: true, description: The timer's text.}
  service: {type: str, required: true, description: The service's text.}
  dropins: {type: list, elements: dict, default: [], description: "{name, content, state} each, of the service"}
  files:
    type: list
    elements: dict
    default: []
    description: "{path, content, owner, group, mode, state, restart: a unit that reads it only at its start} each"
  exposure: {type: float, description: "Highest exposure allowed, from 0.0 to 10.0."}
  attempt: {type: bool, default: true, description: Start the service once after a change. Where it fails it stays out.}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Run it every day
  service_timer:
    name: example
    timer: "{{ lookup('ansible.builtin.template', 'example.timer.j2') }}"
    service: "{{ lookup('ansible.builtin.template', 'example.service.j2') }}"
"""

RETURN = r"""
paths: {type: list, elements: str, returned: always, description: "What differed, each with how"}
due: {type: list, elements: str, returned: always, description: What was to be done with the units}
"""


def wanted(options: dict[str, Any]) -> list[Change]:
    """Everything that should be there or not, in the order in which it is made."""
    name, gone = options["name"], options["state"] == "absent"
    folder = f"{UNITS}/{name}.service.d"
    dropins = [{**entry, "path": f"{folder}/{entry['name']}.conf"} for entry in options["dropins"]]
    units = [
        {"path": f"{UNITS}/{name}.timer", "content": options["timer"]},
        {"path": f"{UNITS}/{name}.service", "content": options["service"]},
    ]
    todo: list[Change] = [] if gone else [{"path": folder, "kind": "directory", "mode": "0755"}]
    listed: list[Change] = [*options["files"], *dropins, *units]
    for entry in listed:
        out = gone or entry.get("state", "present") == "absent"
        todo.append({**entry, "kind": "absent" if out else "file"})
    # What an earlier call installed, and nobody names any more.
    record = load_json(deployed_file(f"{name}.timer")) or {}
    left = set(record.get("files", {})) - {entry["path"] for entry in todo}
    todo += [{"path": path, "kind": "absent"} for path in sorted(left)]
    return [*todo, deployed(f"{name}.timer", todo)]


def deployed(unit: str, todo: list[Change]) -> Change:
    """The record of what is deployed, which a verification compares with what is there."""
    files = {}
    for entry in todo:
        if entry["kind"] == "file":
            about = {key: entry.get(key, "root") for key in ("owner", "group")} | {"mode": entry.get("mode", "0644")}
            files[entry["path"]] = about | {"sha256": hashlib.sha256(entry["content"].encode()).hexdigest()}
    if not files:
        return {"path": deployed_file(unit), "kind": "absent", "record": True}
    text = json.dumps({"files": files, "directories": {}, "links": {}}, indent=1, sort_keys=True) + "\n"
    return {"path": deployed_file(unit), "kind": "file", "content": text, "record": True}


def failures(name: str, changes: list[tuple[Change, Change, str]], due: list[str]) -> list[str]:
    """Make the changes, and have systemd know them; what went wrong (nothing, as a rule)."""
    for want, now, _ in changes:
        make(want, now)
    asked = [["restart", want["restart"]] for want, _, _ in changes if "restart" in want]
    asked += [["daemon-reload"]] if due else []
    asked += [["enable", "--now", f"{name}.timer"]] if "start" in due else []
    asked += [["restart", f"{name}.timer"]] if "restart" in due else []
    asked += [["start", f"{name}.service"]] if "try" in due else []
    for argv in asked:
        done = run("systemctl", *argv, timeout=120)
        if done.returncode != 0:
            said = journal(f"{name}.service", "", 15) if argv[0] == "start" else []
            return [f"systemctl {' '.join(argv)}: {done.stderr.strip()}", *said]
    return []


def leave(name: str, gone: list[str]) -> None:
    """Stop and forget units whose files are gone."""
    for unit in (f"{name}.timer", f"{name}.service"):
        run("systemctl", "stop", unit)
    for path in gone:
        with contextlib.suppress(OSError):
            os.unlink(path)
    with contextlib.suppress(OSError):  # somebody else's drop-in keeps it
        os.rmdir(f"{UNITS}/{name}.service.d")
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", f"{name}.service")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "timer": {"type": "str", "required": True},
            "service": {"type": "str", "required": True},
            "dropins": {"type": "list", "elements": "dict", "default": []},
            "files": {"type": "list", "elements": "dict", "default": []},
            "exposure": {"type": "float"},
            "attempt": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    options, name = module.params, module.params["name"]
    timer, service = f"{name}.timer", f"{name}.service"
    os.umask(0o022)
    try:
        changes = []
        for want in wanted(options):
            now = snapshot(want["path"])
            wrong = difference(want, now)
            if wrong:
                changes.append((want, now, wrong))
        touched = [want["path"] for want, _, _ in changes if "record" not in want and want["kind"] != "directory"]
        states = {unit: show(unit) for unit in (timer, service)}
        due = due_of(options, touched, states)
        if changes and options["state"] == "present":
            kept = [entry for entry in options["dropins"] if entry.get("state", "present") == "present"]
            dropins = {entry["name"]: entry["content"] for entry in kept}
            programs = [entry["path"] for entry in options["files"]]
            judge(service, options["service"], dropins, options["exposure"], programs)
        if (changes or due) and not module.check_mode:
            if options["state"] == "absent":
                run("systemctl", "disable", "--now", timer)
            bad = failures(name, changes, due)
            if bad:
                for want, now, _ in reversed(changes):
                    put_back(want["path"], now)
                run("systemctl", "daemon-reload")
                for unit in [want["restart"] for want, _, _ in changes if "restart" in want]:
                    run("systemctl", "restart", unit)
                if not os.path.exists(f"{UNITS}/{timer}"):
                    leave(name, [f"{UNITS}/timers.target.wants/{timer}"])
                module.fail_json(msg="\n".join([*bad, "What was there before is back."]))
            if options["state"] == "absent":
                leave(name, [])
    except (OSError, Problem, Refused) as problem:
        module.fail_json(msg=f"{name}: {problem}")
    module.exit_json(
        changed=bool(changes or due),
        paths=[f"{want['path']} ({wrong})" for want, _, wrong in changes],
        due=due,
        diff=[
            {
                "before_header": f"{want['path']} ({wrong})",
                "after_header": want["path"],
                "before": text_of(now),
                "after": text_of(want),
            }
            for want, now, wrong in changes
        ],
    )


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
