"""Bring a service's files, directories and links to what they should be, record them, and put them back byte for byte.

Behind service_files, service_timer and dropin_rollback: one record, one comparison, one diff, one write.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ansible.module_utils.service_unit import (
    UNITS,
    deployed_file,
    group_id,
    link,
    load_json,
    redacted,
    transaction_file,
    user_id,
    write,
)

# {kind: file|directory|link|absent, ...}. As it should be: path, content, owner, group, mode or target, and
# record: True for this project's own notes. As it is: data (base64), uid, gid, mode or target.
State = dict[str, Any]


class Problem(Exception):
    """Something stands where it should not; the message says what to do."""


class Change(NamedTuple):
    """A path that differs. how: in words."""

    wanted: State
    now: State
    how: str

    @property
    def path(self) -> str:
        return str(self.wanted["path"])


def compare(wanted: Iterable[State]) -> list[Change]:
    """What differs, in the order in which it is to be changed."""
    states = ((each, snapshot(each["path"])) for each in wanted)
    return [Change(each, now, how) for each, now in states if (how := difference(each, now))]


def unit_states(unit: str, content: str, dropins: Sequence[State], rolled_back: Sequence[str] = ()) -> list[State]:
    """A unit's file, its drop-ins' directory and its drop-ins, as they should be. dropins: {name, content, state}."""
    folder = f"{UNITS}/{unit}.d"
    states: list[State] = [{"path": f"{UNITS}/{unit}", "kind": "file", "content": content}]
    if present_dropins(dropins):
        states.append({"path": folder, "kind": "directory", "mode": "0755"})
    for each in dropins:
        present = each.get("state", "present") == "present" and each["name"] not in rolled_back
        state: State = {"kind": "file", "content": each["content"]} if present else {"kind": "absent"}
        states.append({"path": f"{folder}/{each['name']}.conf", **state})
    return states


def present_dropins(dropins: Sequence[State]) -> dict[str, str]:
    """{name: content} of those that should be there."""
    return {each["name"]: each["content"] for each in dropins if each.get("state", "present") == "present"}


def deployed_record(unit: str, wanted: Sequence[State], rolled_back: Sequence[str] = (), *, whole: bool) -> State:
    """The record of what is deployed, itself a file of the change, so that it is taken back with the rest.

    whole: everything of the service is in `wanted`; else the rest of the former record stays.
    """
    former: dict[str, dict[str, Any]] = load_json(deployed_file(unit)) or {}
    before = {kind: former.get(kind, {}) for kind in ("files", "directories", "links")}
    after: dict[str, Any] = {kind: {} if whole else before[kind] for kind in before}
    for each in wanted:
        path = each["path"]
        entry = {"owner": "root", "group": "root", "mode": "0644", **each}
        recorded = {key: entry[key] for key in ("owner", "group", "mode")}
        if each["kind"] == "file":
            after["files"][path] = recorded | {"sha256": hashlib.sha256(contents(each)).hexdigest()}
        elif each["kind"] == "directory":
            after["directories"][path] = recorded
        elif each["kind"] == "link":
            after["links"][path] = each["target"]
        elif os.path.basename(path).removesuffix(".conf") in rolled_back and path in before["files"]:
            after["files"][path] = before["files"][path]  # what it is when it is restored
    if not any(after.values()):
        return {"path": deployed_file(unit), "kind": "absent", "record": True}
    text = json.dumps(after, indent=1, sort_keys=True) + "\n"
    return {"path": deployed_file(unit), "kind": "file", "content": text, "record": True}


def remember_transaction(unit: str, changes: Iterable[Change], restart: bool) -> None:
    """Record a change before its first write, so that the next run can finish or revert one that was cut off."""
    pending = load_json(transaction_file(unit)) or {"before": {}, "restart": False}
    before = {**{change.path: change.now for change in changes}, **pending["before"]}
    record = {"before": before, "restart": pending["restart"] or restart}
    os.makedirs(os.path.dirname(transaction_file(unit)), mode=0o700, exist_ok=True)
    write(transaction_file(unit), json.dumps(record).encode(), 0o600)


def report(changes: Sequence[Change]) -> dict[str, Any]:
    """What a module returns of its changes: `paths` and `diff`."""
    diff = [
        {
            "before_header": f"{change.path} ({change.how})",
            "after_header": change.path,
            "before": text_of(change.now),
            "after": text_of(change.wanted),
        }
        for change in changes
    ]
    return {"paths": [f"{change.path} ({change.how})" for change in changes], "diff": diff}


def snapshot(path: str) -> State:
    """What is at a path now, so that it can be put back byte for byte."""
    try:
        status = os.lstat(path)
    except OSError:
        return {"kind": "absent"}
    owner: State = {"mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid}
    if stat.S_ISLNK(status.st_mode):
        return {"kind": "link", "target": os.readlink(path)}
    if stat.S_ISDIR(status.st_mode):
        return {"kind": "directory", **owner}
    if not stat.S_ISREG(status.st_mode):
        raise Problem(f"{path} is neither a file, a directory nor a link: move it away")
    with open(path, "rb") as stream:
        return {"kind": "file", "data": base64.b64encode(stream.read()).decode(), **owner}


def contents(state: State) -> bytes:
    """A file's contents, as it is or as it should be."""
    return base64.b64decode(state["data"]) if "data" in state else state["content"].encode()


def put_back(path: str, before: State) -> None:
    """Restore what snapshot() returned."""
    if before["kind"] == "file":
        write(path, contents(before), before["mode"], before["uid"], before["gid"])
    elif before["kind"] == "link":
        link(path, before["target"])
    elif before["kind"] == "directory":
        os.makedirs(path, exist_ok=True)
        os.chown(path, before["uid"], before["gid"])
        os.chmod(path, before["mode"])
    elif os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(OSError):  # not empty: it holds files of others
            os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


def difference(wanted: State, now: State) -> str:
    """How what is there differs from what should be; empty where it does not."""
    kind = wanted["kind"]
    if now["kind"] != kind:
        return "missing" if now["kind"] == "absent" else "to go" if kind == "absent" else f"a {now['kind']}"
    if kind == "absent":
        return ""
    if kind == "link":
        return "" if now["target"] == wanted["target"] else f"points to {now['target']}"
    wrong = []
    if kind == "file" and contents(now) != contents(wanted):
        wrong.append("content")
    owner, group = user_id(wanted.get("owner", "root")), group_id(wanted.get("group", "root"))
    if (now["uid"], now["gid"]) != (owner, group):
        wrong.append(f"owner {now['uid']}:{now['gid']}")
    if now["mode"] != int(wanted.get("mode", "0644"), 8):
        wrong.append(f"mode {now['mode']:04o}")
    return ", ".join(wrong)


def make(change: Change) -> None:
    """Bring one path to what it should be."""
    wanted, now, _ = change
    path, kind = change.path, wanted["kind"]
    if kind != now["kind"] and "directory" in (kind, now["kind"]) and now["kind"] != "absent":
        raise Problem(f"{path} is a {now['kind']} where a {kind} belongs: move it away")
    if kind == "absent":
        os.unlink(path)
        return
    if kind == "link":
        os.makedirs(os.path.dirname(path), exist_ok=True)
        link(path, wanted["target"])
        return
    owner, group = user_id(wanted.get("owner", "root")), group_id(wanted.get("group", "root"))
    if owner is None or group is None:
        names = f"{wanted.get('owner', 'root')}:{wanted.get('group', 'root')}"
        raise Problem(f"{path} should belong to {names}, and this host has no such user or group")
    mode = int(wanted.get("mode", "0644"), 8)
    if kind == "directory":
        os.makedirs(path, exist_ok=True)
        os.chown(path, owner, group)
        os.chmod(path, mode)
        return
    write(path, contents(wanted), mode, owner, group)


def text_of(state: State) -> str:
    """A path's state as the diff shows it."""
    if state["kind"] == "file":
        return str(redacted(contents(state).decode(errors="replace")))
    return {"link": f"-> {state.get('target')}\n", "directory": "directory\n", "absent": ""}[state["kind"]]
