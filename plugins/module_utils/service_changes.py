"""Bring a service's files, directories and links to what they should be, record them, and put them back byte for byte.

Behind service_files, service_timer and dropin_rollback: one record, one comparison, one diff, one write.
"""

import base64
import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ansible.module_utils.drift import UNRECORDED, open_regular, read_json
from ansible.module_utils.service_unit import (
    UNITS,
    deployed_file,
    draft,
    group_id,
    link,
    redacted,
    transaction_file,
    user_id,
    write,
)

GAP_S = 4.0  # at most so long is nobody seen to complete a change, between two tasks of a deployment
SWITCH_S = 180.0
# {kind: file|directory|link|absent, ...}. As it should be: path, content, owner, group, mode or target, and
# record: True for this project's own notes. As it is: data (base64), uid, gid, mode or target.
State = dict[str, Any]


class Problem(Exception):
    """Something stands where it should not; the message says what to do."""


class Change(NamedTuple):
    """A path that differs. how: in words."""

    desired: State
    now: State
    how: str

    @property
    def path(self) -> str:
        return str(self.desired["path"])


def compare(desired: Iterable[State]) -> list[Change]:
    """What differs, in the order in which it is to be changed."""
    states = ((each, snapshot(each["path"])) for each in desired)
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


def deployed_record(unit: str, desired: Sequence[State], rolled_back: Sequence[str] = (), *, whole: bool) -> State:
    """The record of what is deployed, itself a file of the change, so that it is taken back with the rest.

    whole: everything of the service is in `wanted`; else the rest of the former record stays.
    """
    former: dict[str, dict[str, Any]] = read_json(deployed_file(unit))
    before = {kind: former.get(kind, {}) for kind in ("files", "directories", "links")}
    after: dict[str, Any] = {kind: {} if whole else before[kind] for kind in before}
    for each in desired:
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


def make_all(unit: str, changes: Sequence[Change], restart: bool, reverts: bool = True) -> None:
    """Make the changes, recorded before the first one, so that the next run can finish or revert them when cut off.

    A disk that is full by then stops this before anything is replaced, and cannot stop a revert: the new files are on
    the disk beside their places first, and what they replace stays there, by another name, until the end.

    reverts: whether service_files(state=reverted) puts them back.
    """
    pending = {"before": {}, "restart": False} | read_json(transaction_file(unit))
    before = {**{change.path: change.now for change in changes if reverts}, **pending["before"]}
    record = {"before": before, "restart": pending["restart"] or restart, "who": current_user()}
    os.makedirs(os.path.dirname(transaction_file(unit)), mode=0o700, exist_ok=True)
    note_unrecorded(unit, changes)
    write(transaction_file(unit), json.dumps(record).encode(), 0o600)
    drafts: dict[str, str] = {}
    try:
        for change in changes:
            if change.desired["kind"] == "directory":
                make(change)
        for change in changes:
            if change.desired["kind"] == "file":
                check_kind(change)
                state = resolved_for(change)
                drafts[change.path] = draft(change.path, contents(state), state["mode"], state["uid"], state["gid"])
        for path in before if reverts else ():
            keep_former(path)
        for change in changes:
            if change.path in drafts:
                os.replace(drafts.pop(change.path), change.path)
            elif change.desired["kind"] != "directory":
                make(change)
    finally:
        for path in drafts.values():
            with contextlib.suppress(OSError):
                os.unlink(path)


def await_switch(unit: str) -> str:
    """Wait for the end of a change that another deployment is about to complete; whom that took, if anybody.

    Whoever completes it holds the lock of its record meanwhile (service_run). Nobody does for a moment before that, and
    where it was cut off: then this goes on, and finishes it. Raises Problem after SWITCH_S.
    """
    end, who = time.monotonic() + SWITCH_S, ""
    while True:
        try:
            handle = open_regular(transaction_file(unit))
        except OSError:
            return who
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not 0 <= time.time() - os.fstat(handle).st_mtime <= GAP_S:
                return who
        except BlockingIOError:
            who = str(read_json(transaction_file(unit)).get("who") or "somebody")
        finally:
            os.close(handle)
        if time.monotonic() > end:
            raise Problem(
                f"another deployment (of {who or 'somebody'}) has been switching for {SWITCH_S:g} s: let it end"
            )
        time.sleep(0.2)


def current_user() -> str:
    """Who logged in to this host for this."""
    return os.environ.get("SUDO_USER") or "root"


def former_of(path: str) -> str:
    """Where what a change replaced stays until the change is complete: beside it, for that takes no room."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.former")


def keep_former(path: str) -> None:
    """Give a file that is about to be replaced a second name, unless an earlier run that was cut off has done so."""
    if os.path.isfile(path) and not os.path.islink(path):
        with contextlib.suppress(OSError):  # it is there already, or the file system has no links
            os.link(path, former_of(path), follow_symlinks=False)


def forget_formers(paths: Iterable[str]) -> None:
    """Remove the second names of what was replaced."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(former_of(path))


def put_former(path: str, state: State) -> None:
    """Put back what was at a path; a file by its second name, which needs no room on the disk."""
    former = former_of(path)
    if state["kind"] == "file" and same_file(former, state):
        os.replace(former, path)
    else:
        put(path, state)


def same_file(path: str, state: State) -> bool:
    """Whether a file is what a snapshot was of."""
    try:
        return snapshot(path) == {key: state[key] for key in ("kind", "data", "mode", "uid", "gid")}
    except (OSError, Problem, KeyError):
        return False


def note_unrecorded(unit: str, changes: Sequence[Change]) -> None:
    """Note on the disk what is about to change, until the history has it: see deployment_history."""
    former = read_json(UNRECORDED)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    paths = [*former.get("changed", []), *(f"{change.path} ({change.how})" for change in changes)]
    note = {"unit": unit, "when": former.get("when", when), "changed": list(dict.fromkeys(paths))}
    write(UNRECORDED, json.dumps(note, indent=1).encode(), 0o600)


def report(changes: Sequence[Change]) -> dict[str, Any]:
    """What a module returns of its changes: `paths` and `diff`."""
    paths = [f"{change.path} ({change.how})" for change in changes]
    texts = [{"before": text_of(change.now), "after": text_of(change.desired)} for change in changes]
    heads = [{"before_header": how, "after_header": change.path} for how, change in zip(paths, changes, strict=True)]
    return {"paths": paths, "diff": [head | text for head, text in zip(heads, texts, strict=True)]}


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
    with os.fdopen(open_regular(path), "rb") as stream:
        return {"kind": "file", "data": base64.b64encode(stream.read()).decode(), **owner}


def contents(state: State) -> bytes:
    """A file's contents, as it is or as it should be."""
    return base64.b64decode(state["data"]) if "data" in state else state["content"].encode()


def put(path: str, state: State) -> None:
    """Bring a path to a state of snapshot() or resolved()."""
    kind = state["kind"]
    if kind == "file":
        write(path, contents(state), state["mode"], state["uid"], state["gid"])
    elif kind == "link":
        link(path, state["target"])
    elif kind == "directory":
        os.makedirs(path, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)  # never what a link leads to
        try:
            os.fchown(handle, state["uid"], state["gid"])
            os.fchmod(handle, state["mode"])
        finally:
            os.close(handle)
    elif os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(OSError):  # not empty: it holds files of others
            os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


def resolved(desired: State) -> State:
    """A wanted state with mode, uid and gid as numbers; None for an id where the host has no such user or group yet."""
    if desired["kind"] in ("absent", "link"):
        return desired
    ids = {"uid": user_id(desired.get("owner", "root")), "gid": group_id(desired.get("group", "root"))}
    return {**desired, **ids, "mode": int(desired.get("mode", "0644"), 8)}


def difference(desired: State, now: State) -> str:
    """How what is there differs from what should be; empty where it does not."""
    kind, want = desired["kind"], resolved(desired)
    if now["kind"] != kind:
        return "missing" if now["kind"] == "absent" else "to go" if kind == "absent" else f"a {now['kind']}"
    if kind == "absent":
        return ""
    if kind == "link":
        return "" if now["target"] == want["target"] else f"points to {now['target']}"
    wrong = ["content"] if kind == "file" and contents(now) != contents(want) else []
    if (now["uid"], now["gid"]) != (want["uid"], want["gid"]):
        wrong.append(f"owner {now['uid']}:{now['gid']}")
    if now["mode"] != want["mode"]:
        wrong.append(f"mode {now['mode']:04o}")
    return ", ".join(wrong)


def make(change: Change) -> None:
    """Bring one path to what it should be. Raises Problem."""
    check_kind(change)
    put(change.path, resolved_for(change))


def check_kind(change: Change) -> None:
    """Raises Problem where a directory stands in the place of something else, or the other way round."""
    kind, now = change.desired["kind"], change.now["kind"]
    if kind != now and "directory" in (kind, now) and now != "absent":
        raise Problem(f"{change.path} is a {now} where a {kind} belongs: move it away")


def resolved_for(change: Change) -> State:
    """As `resolved`, of a host that has the owner and the group. Raises Problem."""
    state = resolved(change.desired)
    if None in (state.get("uid", 0), state.get("gid", 0)):
        names = f"{state.get('owner', 'root')}:{state.get('group', 'root')}"
        raise Problem(f"{change.path} should belong to {names}, and this host has no such user or group")
    return state


def text_of(state: State) -> str:
    """A path's state as the diff shows it."""
    if state.get("secret"):
        return "(what was there before, as it was)\n"
    if state["kind"] == "file":
        return str(redacted(contents(state).decode(errors="replace")))
    return {"link": f"-> {state.get('target')}\n", "directory": "directory\n", "absent": ""}[state["kind"]]
