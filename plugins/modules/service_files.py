"""Everything a service is made of, as one change that can be taken back: see DOCUMENTATION."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service_paths import Change, Problem, difference, make, put_back, snapshot, text_of
from ansible.module_utils.service_unit import (
    UNITS,
    deployed_file,
    load_json,
    rolled_back_folder,
    show,
    transaction_file,
    write,
)

DOCUMENTATION = r"""
module: service_files
short_description: Install a unit, its drop-ins, its files and links as one change that can be taken back
description:
  - Compares and replaces contents, owner and mode of every file named. In check mode it only says what it would do,
    which is the same list.
  - What it replaces is kept under /run/hybrid-deploy until the service has proven itself (see M(service_run));
    O(state=reverted) puts all of it back, also what was not there before.
  - A drop-in that was rolled back by name stays out, and is told of.
options:
  unit: {type: str, required: true, description: "The unit, as hybrid-engine.service."}
  state: {type: str, choices: [present, reverted], default: present, description: Install, or take back.}
  content: {type: str, description: The unit file's text. Without it the unit and its drop-ins are left as they are.}
  dropins: {type: list, elements: dict, default: [], description: "{name, content, state: present|absent} each"}
  files: {type: list, elements: dict, default: [], description: "{path, content, owner, group, mode} each"}
  directories: {type: list, elements: dict, default: [], description: "{path, owner, group, mode} each"}
  links: {type: list, elements: dict, default: [], description: "{path, target} each"}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Install the service
  service_files:
    unit: example.service
    content: "{{ lookup('ansible.builtin.template', 'example.service.j2') }}"
    dropins: [{name: 40-hardening, content: "...", state: present}]
"""

RETURN = r"""
beside: {type: list, elements: str, returned: always, description: Units that were deployed to this host}
paths: {type: list, elements: str, returned: always, description: "What differs, each with how"}
matters: {type: bool, returned: always, description: Something differs that the service reads}
restart: {type: bool, returned: always, description: The running process does not know what is installed}
rolled_back: {type: list, elements: dict, returned: always, description: Drop-ins that stay out, and since when}
unmanaged: {type: list, elements: str, returned: always, description: Drop-ins in force that nobody listed}
pending: {type: bool, returned: always, description: An earlier change was not finished}
"""


def wanted(options: dict[str, Any], out: set[str]) -> list[Change]:
    """Everything that should be there (or should not), in the order in which it is made."""
    unit = options["unit"]
    todo: list[Change] = [{"kind": "directory", "mode": "0755", **entry} for entry in options["directories"]]
    if options["content"] is not None:
        todo.append({"path": f"{UNITS}/{unit}", "kind": "file", "content": options["content"], "reload": True})
        folder = f"{UNITS}/{unit}.d"
        if any(entry.get("state", "present") == "present" for entry in options["dropins"]):
            todo.append({"path": folder, "kind": "directory", "mode": "0755"})
        for entry in options["dropins"]:
            gone = entry.get("state", "present") == "absent" or entry["name"] in out
            path = f"{folder}/{entry['name']}.conf"
            todo.append(
                {"path": path, "reload": True, "kind": "absent"}
                if gone
                else {"path": path, "reload": True, "kind": "file", "content": entry["content"]}
            )
    todo += [{"kind": "file", **entry} for entry in options["files"]]
    return todo + [{"kind": "link", **entry} for entry in options["links"]]


def deployed(unit: str, todo: list[Change], out: set[str]) -> Change:
    """The record of what is deployed, itself a file of this change: it is taken back with the rest."""
    record: dict[str, Any] = load_json(deployed_file(unit)) or {}
    before = {kind: record.get(kind, {}) for kind in ("files", "directories", "links")}
    after: dict[str, Any] = before if is_part(todo) else {kind: {} for kind in before}
    for entry in todo:
        path = entry["path"]
        about = {key: entry.get(key, "root") for key in ("owner", "group")} | {"mode": entry.get("mode", "0644")}
        if entry["kind"] == "file":
            about["sha256"] = hashlib.sha256(entry["content"].encode()).hexdigest()
            after["files"][path] = about
        elif entry["kind"] == "directory":
            after["directories"][path] = about
        elif entry["kind"] == "link":
            after["links"][path] = entry["target"]
        elif path.endswith(".conf") and os.path.basename(path)[: -len(".conf")] in out and path in before["files"]:
            after["files"][path] = before["files"][path]  # what it is when it is restored
    text = json.dumps(after, indent=1, sort_keys=True) + "\n"
    return {"path": deployed_file(unit), "kind": "file", "content": text, "record": True}


def is_part(todo: list[Change]) -> bool:
    """Whether this change is of single links or files only, as a rollback's is, and not of a whole service."""
    return not any(entry.get("reload") for entry in todo)


def unmanaged(unit: str, todo: list[Change]) -> list[str]:
    """Drop-ins that change the unit and were named by nobody here. They are left alone, and told of."""
    known = {entry["path"] for entry in todo}
    found = set(show(unit).get("DropInPaths", "").split())
    found |= set(glob.glob(f"{UNITS}/{unit}.d/*.conf"))
    # A distribution's own drop-ins for all services are its business.
    return sorted(path for path in found - known if f"/{unit}.d/" in path)


def remember(path: str, record: dict[str, Any]) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    write(path, json.dumps(record).encode(), 0o600)


def revert(unit: str, module: AnsibleModule) -> None:
    """Put everything back that the unfinished change replaced."""
    record = load_json(transaction_file(unit)) or {"before": {}}
    if not module.check_mode:
        for path, before in reversed(list(record["before"].items())):
            put_back(path, before)
        existed = record["before"].get(f"{UNITS}/{unit}", {"kind": "file"})["kind"] != "absent"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(transaction_file(unit))
        if not existed:
            shutil.rmtree(f"{UNITS}/{unit}.d", ignore_errors=True)
    module.exit_json(changed=bool(record["before"]), paths=sorted(record["before"]))


def main() -> None:
    entries = {"type": "list", "elements": "dict", "default": []}
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "reverted"], "default": "present"},
            "content": {"type": "str"},
            "dropins": entries,
            "files": entries,
            "directories": entries,
            "links": entries,
        },
        supports_check_mode=True,
    )
    options, unit = module.params, module.params["unit"]
    record_folder = os.path.dirname(deployed_file(unit))
    os.umask(0o022)
    if options["state"] == "reverted":
        revert(unit, module)
    markers = glob.glob(f"{rolled_back_folder(unit)}/*.conf")
    out = {os.path.basename(path)[: -len(".conf")]: load_json(path) or {} for path in sorted(markers)}
    try:
        todo = wanted(options, set(out))
        todo.append(deployed(unit, todo, set(out)))
        pending = load_json(transaction_file(unit))
        changes: list[tuple[Change, Change, str]] = []
        for want in todo:
            now = snapshot(want["path"])
            wrong = difference(want, now)
            if wrong:
                changes.append((want, now, wrong))
        # Owner and mode concern the next start; contents, links and kinds concern the process that runs.
        restart = any(
            want["kind"] != "directory" and "record" not in want and not wrong.startswith(("owner", "mode"))
            for want, _, wrong in changes
        )
        if changes and not module.check_mode:
            # Written before the first change, so that a deploy that is cut off is finished by the next one.
            record = pending or {"before": {}, "restart": False}
            record["restart"] = record["restart"] or restart
            record["before"] = {**{want["path"]: now for want, now, _ in changes}, **record["before"]}
            remember(transaction_file(unit), record)
            for want, now, _ in changes:
                make(want, now)
    except (OSError, Problem) as problem:
        module.fail_json(msg=f"{unit}: {problem}")
    module.exit_json(
        changed=bool(changes),
        # What a candidate would have to show: owners, modes and the record cannot break a service that runs.
        matters=restart,
        paths=[f"{want['path']} ({wrong})" for want, _, wrong in changes],
        restart=restart or bool(pending and pending["restart"]),
        pending=bool(pending),
        rolled_back=[{"name": name, **about} for name, about in out.items()],
        beside=sorted(name.removesuffix(".json") for name in glob.glob("*.json", root_dir=record_folder)),
        unmanaged=unmanaged(unit, todo) if options["content"] is not None else [],
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


if __name__ == "__main__":
    main()
