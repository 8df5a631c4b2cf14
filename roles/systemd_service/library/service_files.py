"""Everything a service is made of, as one change that can be taken back: see DOCUMENTATION."""

from __future__ import annotations

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
paths: {type: list, elements: str, returned: always, description: "What differs, each with how"}
matters: {type: bool, returned: always, description: "Something differs that the service reads, not only an owner or mode"}
restart: {type: bool, returned: always, description: The running process does not know what is installed}
rolled_back: {type: list, elements: dict, returned: always, description: Drop-ins that stay out, and since when}
unmanaged: {type: list, elements: str, returned: always, description: Drop-ins in force that nobody listed}
pending: {type: bool, returned: always, description: An earlier change was not finished}
"""

import base64
import contextlib
import glob
import hashlib
import json
import os
import shutil
import stat
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service_unit import (
    UNITS,
    deployed_file,
    group_id,
    link,
    load_json,
    redacted,
    rolled_back_folder,
    show,
    transaction_file,
    user_id,
    write,
)

Change = dict[str, Any]  # {path, kind: file|directory|link|absent, wrong, ...what to make}


class Problem(Exception):
    """Something stands where it should not; the message says what to do."""


def snapshot(path: str) -> Change:
    """What is at a path now, so that it can be put back byte for byte."""
    try:
        status = os.lstat(path)
    except OSError:
        return {"kind": "absent"}
    kept: Change = {"mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid}
    if stat.S_ISLNK(status.st_mode):
        return {"kind": "link", "target": os.readlink(path)}
    if stat.S_ISDIR(status.st_mode):
        return {"kind": "directory", **kept}
    if not stat.S_ISREG(status.st_mode):
        raise Problem(f"{path} is neither a file, a directory nor a link: move it away")
    with open(path, "rb") as stream:
        return {"kind": "file", "data": base64.b64encode(stream.read()).decode(), **kept}


def put_back(path: str, before: Change) -> None:
    """Restore what snapshot() saw."""
    if before["kind"] == "file":
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, base64.b64decode(before["data"]), before["mode"], before["uid"], before["gid"])
    elif before["kind"] == "link":
        link(path, before["target"])
    elif before["kind"] == "directory":
        os.makedirs(path, exist_ok=True)
        os.chown(path, before["uid"], before["gid"])
        os.chmod(path, before["mode"])
    elif os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(OSError):  # not empty: somebody else's files keep it
            os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


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
            todo.append({"path": path, "reload": True, "kind": "absent"} if gone else
                        {"path": path, "reload": True, "kind": "file", "content": entry["content"]})
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


def difference(want: Change, now: Change) -> str:
    """How what is there differs from what should be; empty where it does not."""
    kind = want["kind"]
    if now["kind"] != kind:
        return "missing" if now["kind"] == "absent" else "to go" if kind == "absent" else f"a {now['kind']}"
    if kind == "absent":
        return ""
    if kind == "link":
        return "" if now["target"] == want["target"] else f"points to {now['target']}"
    wrong = []
    if kind == "file" and base64.b64decode(now["data"]) != want["content"].encode():
        wrong.append("content")
    owner, group = user_id(want.get("owner", "root")), group_id(want.get("group", "root"))
    if (now["uid"], now["gid"]) != (owner, group):
        wrong.append(f"owner {now['uid']}:{now['gid']}")
    if now["mode"] != int(want.get("mode", "0644"), 8):
        wrong.append(f"mode {now['mode']:04o}")
    return ", ".join(wrong)


def make(want: Change, now: Change) -> None:
    """Bring one path to what it should be."""
    path, kind = want["path"], want["kind"]
    if kind != now["kind"] and "directory" in (kind, now["kind"]) and now["kind"] != "absent":
        raise Problem(f"{path} is a {now['kind']} where a {kind} belongs: move it away")
    if kind == "absent":
        os.unlink(path)
        return
    if kind == "link":
        os.makedirs(os.path.dirname(path), exist_ok=True)
        link(path, want["target"])
        return
    owner, group = user_id(want.get("owner", "root")), group_id(want.get("group", "root"))
    if owner is None or group is None:
        raise Problem(f"{path} should belong to {want.get('owner', 'root')}:{want.get('group', 'root')}, unknown here")
    mode = int(want.get("mode", "0644"), 8)
    if kind == "directory":
        os.makedirs(path, exist_ok=True)
        os.chown(path, owner, group)
        os.chmod(path, mode)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write(path, want["content"].encode(), mode, owner, group)


def text_of(entry: Change) -> str:
    """A path's state as the diff shows it."""
    if entry["kind"] == "file":
        raw = base64.b64decode(entry["data"]).decode(errors="replace") if "data" in entry else entry["content"]
        return redacted(raw)
    return {"link": f"-> {entry.get('target')}\n", "directory": "directory\n", "absent": ""}[entry["kind"]]


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
