"""Paths on a host as they are and as they should be: files, directories and links, each put back byte for byte."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from typing import Any

from ansible.module_utils.service_unit import group_id, link, redacted, user_id, write

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
        return str(redacted(raw))
    return {"link": f"-> {entry.get('target')}\n", "directory": "directory\n", "absent": ""}[entry["kind"]]
