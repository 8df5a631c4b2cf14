"""Take off a host what this project put there: see DOCUMENTATION."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: uninstalled
short_description: Stop and remove units, programs, configuration, user and group; leave the data, or not
description:
  - Refuses while a proof or a soak holds the host. Says in check mode what would go.
  - Data that stay belong to root afterwards, so that no user made later gets hold of them by number. A deployment gives
    them back, as systemd does for a state directory.
options:
  units: {type: list, elements: str, required: true, description: "Units, as example.service, example.timer."}
  paths: {type: list, elements: str, required: true, description: Files and directories that are this project's alone.}
  strangers:
    type: list
    elements: dict
    default: []
    description: "{path, names}: directories in which others may have put files, which stay, and what in them goes"
  data: {type: list, elements: str, required: true, description: Directories of data.}
  keep_data: {type: bool, required: true, description: Whether they stay.}
  user: {type: str, required: true, description: The service's user.}
  group: {type: str, required: true, description: The service's group.}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Take it off
  uninstalled:
    units: [example.service]
    paths: [/opt/example]
    data: [/var/lib/example]
    keep_data: true
    user: example
    group: example
"""

RETURN = r"""
paths: {type: list, elements: str, returned: always, description: "What went, each with how"}
left: {type: list, elements: str, returned: always, description: "What stays, each with why"}
"""
UNITS = "/etc/systemd/system"
RUN_UNITS = ("/run/systemd/system", "/run/systemd/system.control", "/run/systemd/transient")
LOCK = "/run/hybrid-proofs/lock"
STAMPS = "/var/lib/systemd/timers"
DEPLOYED = "/var/lib/hybrid-deploy/deployed"


class Held(Exception):
    """A proof or a soak holds the host; the message says which."""


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def hold() -> None:
    """Be the one who holds the host, until this process ends. Raises Held."""
    try:
        handle = os.open(LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with open(LOCK, encoding="utf-8") as stream:
            who = stream.readline().strip()
        raise Held(f"A proof holds this host: {who}. Let it finish, or end it. Nothing was touched.") from None


def links_to(unit: str) -> list[str]:
    """Where it is enabled."""
    return [path for path in glob.glob(f"{UNITS}/*.wants/{unit}") if os.path.islink(path)]


def known(units: list[str]) -> list[str]:
    """The units that are there in any way: installed, enabled, or running from a file that is gone."""
    states = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", *units).stdout
    loaded = {line.split()[0] for line in states.splitlines() if line.split()}
    return [unit for unit in units if unit in loaded or os.path.exists(f"{UNITS}/{unit}") or links_to(unit)]


def deployed() -> set[str]:
    """Every file that a deployment recorded as its own."""
    found: set[str] = set()
    for path in glob.glob(f"{DEPLOYED}/*.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError), open(path, encoding="utf-8") as stream:
            found |= set(json.load(stream).get("files", {}))
    return found


def to_go(options: dict[str, Any], left: list[str]) -> list[str]:
    """Everything on the disk that goes, files before the directories that they keep; fills `left`."""
    ours, found = deployed(), []
    folders = {entry["path"]: set(entry["names"]) for entry in options["strangers"]}
    for unit in options["units"]:
        found += [*links_to(unit), f"{UNITS}/{unit}", f"{STAMPS}/stamp-{unit}"]
        found += [f"{root}/{name}" for root in RUN_UNITS for name in (unit, f"{unit}.d")]
        folders[f"{UNITS}/{unit}.d"] = set()
    for folder, names in folders.items():
        inside = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        others = [name for name in inside if name not in names and f"{folder}/{name}" not in ours]
        found += [f"{folder}/{name}" for name in inside if name not in others]
        left += [f"{folder}/{name}: not put there by a deployment, so it stays" for name in others]
        if not others:
            found.append(folder)
    found += options["paths"] + ([] if options["keep_data"] else options["data"])
    return [path for path in dict.fromkeys(found) if os.path.lexists(path)]


def remove(path: str) -> None:
    """A file, a link or a whole directory; and its parent where that was made for it and is empty now."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
    if os.path.dirname(path) in ("/usr/local/libexec", "/etc/systemd/journald.conf.d"):
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))


def owned(top: str, user: int, group: int) -> list[str]:
    """Everything from a directory on that belongs to a user or a group."""
    found = [top] if os.path.isdir(top) else []
    for folder, names, files in os.walk(top):
        found += [os.path.join(folder, name) for name in (*names, *files)]
    return [path for path in found if (status := os.lstat(path)).st_uid == user or status.st_gid == group]


def accounts(options: dict[str, Any]) -> tuple[str, str]:
    """The user and the group, each empty where there is none, or one that no deployment made."""
    try:
        user = pwd.getpwnam(options["user"])
        name = user.pw_name if user.pw_gecos.split(",")[0] == "Hybrid engine" else ""
    except KeyError:
        name = ""
    try:
        group = grp.getgrnam(options["group"]).gr_name
    except KeyError:
        group = ""
    adopted = options["user"] in {user.pw_name for user in pwd.getpwall()} - {name}
    return name, "" if adopted else group


def main() -> None:
    texts: dict[str, Any] = {"type": "list", "elements": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            **dict.fromkeys(("units", "paths", "data"), texts),
            "strangers": {"type": "list", "elements": "dict", "default": []},
            "keep_data": {"type": "bool", "required": True},
            **{key: {"type": "str", "required": True} for key in ("user", "group")},
        },
        supports_check_mode=True,
    )
    options = module.params
    left: list[str] = []
    try:
        hold()
        units, going = known(options["units"]), to_go(options, left)
        user, group = accounts(options)
        kept = [path for path in options["data"] if os.path.isdir(path)] if options["keep_data"] else []
        about = pwd.getpwnam(user) if user else None
        ids = (about.pw_uid, about.pw_gid) if about else None
        to_root = [folder for folder in kept if ids and owned(folder, *ids)]
        shown = [f"{unit} (stopped and disabled)" for unit in units] + [f"{path} (removed)" for path in going]
        shown += [f"{folder} (given to root)" for folder in to_root]
        shown += [f"user {user} (removed)"] * bool(user) + [f"group {group} (removed)"] * bool(group)
        if shown and not module.check_mode:
            stop(module, units)
            take_off(units, going)
            for path in [path for folder in to_root if ids for path in owned(folder, *ids)]:
                give_to_root(path)
            forget(module, user, group)
    except (OSError, Held, subprocess.SubprocessError) as problem:
        module.fail_json(msg=str(problem))
    left += [f"{folder}: data; -e engine_data=absent and its host's name delete them" for folder in kept]
    left.append("the journal, where the units' lines stay as long as journald keeps them")
    diff = {"before": "".join(f"{line}\n" for line in shown), "after": ""}
    module.exit_json(changed=bool(shown), paths=shown, left=left, diff=diff)


def stop(module: AnsibleModule, units: list[str]) -> None:
    """Timers first: none may start what has been stopped. A service ends as at any stop, with all it has stored."""
    for unit in sorted(units, key=lambda name: not name.endswith(".timer")):
        done = run("systemctl", "stop", unit)
        run("systemctl", "disable", unit)
        if run("systemctl", "is-active", "--quiet", unit).returncode == 0:
            module.fail_json(msg=f"{unit} does not stop: {done.stderr.strip()}. Its files are still there.")


def take_off(units: list[str], going: list[str]) -> None:
    journald = any("journald.conf.d" in path for path in going)
    for path in going:
        if os.path.lexists(path):
            remove(path)
    run("systemctl", "daemon-reload")
    for unit in units:
        run("systemctl", "reset-failed", unit)
    if journald:
        run("systemctl", "restart", "systemd-journald.service")


def give_to_root(path: str) -> None:
    os.lchown(path, 0, 0)
    if not stat.S_ISLNK(os.lstat(path).st_mode):
        os.chmod(path, 0o700 if os.path.isdir(path) else 0o600)


def forget(module: AnsibleModule, user: str, group: str) -> None:
    for argv in ([["userdel", user]] if user else []) + ([["groupdel", group]] if group else []):
        done = run(*argv)
        if done.returncode not in (0, 6):  # 6: it is gone already, as a user's own group is with the user
            module.fail_json(msg=f"{' '.join(argv)}: {done.stderr.strip()}. Everything else is gone.")


if __name__ == "__main__":
    main()
