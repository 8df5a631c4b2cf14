"""Remove from a host what this project put there: see DOCUMENTATION."""

import contextlib
import fcntl
import glob
import grp
import os
import pwd
import re
import stat
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from ansible.module_utils.adoption import paths_given_back, put_back, read_adopted, start_again
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import DEPLOYED, HISTORY, PROOF_LOCK, open_regular, read_history, read_json, read_text
from ansible.module_utils.service_unit import UNITS, options_of, run

DOCUMENTATION = r"""
{"module": "uninstalled",
 "short_description": "Stop and remove units, programs, configuration, user and group; leave the data, or not",
 "description": "One module and not several builtin ones, because it holds the lock of the proofs from the first look to
  the last removal, so that none can begin meanwhile. Refuses while a proof or a soak holds the host. Lists in check
  mode what would be removed. Data that stay belong to root afterwards, so that no user created later gets hold of them
  by number. A deployment gives them back, as systemd does for a state directory. A service that a deployment took over
  is put back and started as it was. A mount point is emptied and stays.",
 "options": {
  "units": {"type": "list", "elements": "str", "required": true,
   "description": "Units, as example.service, example.timer."},
  "recorded": {"type": "list", "elements": "str", "default": [],
   "description": "Those of O(units) that deployments record: one that is there without a record is somebody else's."},
  "paths": {"type": "list", "elements": "str", "required": true,
   "description": "Files and directories that are this project's alone."},
  "shared": {"type": "list", "elements": "dict", "default": [],
   "description": "{path, names, pattern}: directories that may hold files of others, which stay and keep the directory
    and those above it; the names in them that go, and a pattern of such names. A directory comes before the one that
    it lies in."},
  "data": {"type": "list", "elements": "str", "required": true, "description": "Directories of data."},
  "keep_data": {"type": "bool", "required": true, "description": "Whether they stay."},
  "users": {"type": "list", "elements": "str", "required": true, "description": "The users of its services."},
  "group": {"required": true, "description": "The service's group."}
 }}
"""

RETURN = r"""
paths: {type: list, elements: str, returned: always, description: "What was removed, each with how"}
remaining: {type: list, elements: str, returned: always, description: "What stays, each with why"}
"""
RUN_UNITS = ("/run/systemd/system", "/run/systemd/system.control", "/run/systemd/transient")
LEFT = re.compile(r"\.new-.*|\..*\.former")  # of a change that was cut off
STAMPS = "/var/lib/systemd/timers"
REMOVE_S = 600.0
COMMENT = "Hybrid engine"  # how the comment of each user that a deployment made begins


class HostHeld(Exception):
    """A proof or a soak holds the host; the message says which."""


def lock_host() -> None:
    """Hold the proofs' lock until this process ends. Raises HostHeld."""
    try:
        handle = open_regular(PROOF_LOCK)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = read_text(PROOF_LOCK).partition("\n")[0]
        raise HostHeld(f"A proof holds this host: {holder}. Let it finish, or end it. Nothing was touched.") from None


def links_to(unit: str) -> list[str]:
    """The links that enable a unit."""
    return [path for path in glob.glob(f"{UNITS}/*.wants/{unit}") if os.path.islink(path)]


def foreign_units(options: dict[str, Any], remaining: list[str]) -> set[str]:
    """Those of recorded units whose file no deployment put there. Adds them to `remaining`."""
    deployed = deployed_files()
    foreign = {
        unit for unit in options["recorded"] if os.path.lexists(f"{UNITS}/{unit}") and f"{UNITS}/{unit}" not in deployed
    }
    remaining += [f"{UNITS}/{unit}: not put there by a deployment, so it stays" for unit in sorted(foreign)]
    return foreign


def existing(units: list[str]) -> list[str]:
    """The units that are installed, enabled, or running from a file that was removed."""
    if not units:
        return []
    states = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", *units).stdout
    loaded = {line.split()[0] for line in states.splitlines() if line.split()}
    return [unit for unit in units if unit in loaded or os.path.exists(f"{UNITS}/{unit}") or links_to(unit)]


def deployed_files() -> set[str]:
    """Every file and link that a deployment recorded as its own."""
    records = [read_json(name) for name in glob.glob(f"{DEPLOYED}/*.json")]
    return {path for record in records for kind in ("files", "links") for path in record.get(kind, {})}


def paths_to_remove(options: dict[str, Any], ours: Sequence[str], remaining: list[str]) -> list[str]:
    """All paths to remove, files before their directories. Adds to `remaining` what others put beside them."""
    deployed, paths = deployed_files(), []
    folders = {entry["path"]: (set(entry["names"]), entry.get("pattern") or "(?!)") for entry in options["shared"]}
    occupied: set[str] = set()  # directories in which something stays
    for unit in ours:
        paths += [*links_to(unit), f"{UNITS}/{unit}", f"{STAMPS}/stamp-{unit}"]
        paths += [f"{root}/{name}" for root in RUN_UNITS for name in (unit, f"{unit}.d")]
        folders[f"{UNITS}/{unit}.d"] = set(), "(?!)"
    for folder, (names, pattern) in folders.items():
        # A link leads to what is somebody else's: the entries of a directory of ours are looked at, and no others.
        inside = sorted(os.listdir(folder)) if os.path.isdir(folder) and not os.path.islink(folder) else []
        known = {
            name
            for name in inside
            if name in names or f"{folder}/{name}" in deployed or re.fullmatch(pattern, name) or LEFT.fullmatch(name)
        }
        stays = [name for name in inside if name not in known or f"{folder}/{name}" in occupied]
        paths += [f"{folder}/{name}" for name in inside if name not in stays]
        remaining += [
            f"{folder}/{name}: not put there by a deployment, so it stays" for name in stays if name not in known
        ]
        if stays:
            occupied.add(folder)
        else:
            paths.append(folder)
    paths += options["paths"] + ([] if options["keep_data"] else options["data"])
    return [path for path in dict.fromkeys(paths) if os.path.lexists(path)]


def remove(path: str) -> None:
    """Remove a file, a link or a directory; also its parent where that was created for it and is empty."""
    if mounts := mount_points(path):
        for mount in mounts:
            empty(mount)
        if path in mounts:
            return
    if os.path.isdir(path) and not os.path.islink(path):
        # rm, and not shutil.rmtree: it follows no link either, and has no limit of depth, which an engine may know.
        process = run("rm", "-rf", "--one-file-system", "--", path, timeout=REMOVE_S)
        if process.returncode != 0 and not mounts:
            raise OSError(process.stderr.strip().partition("\n")[0] or f"rm -rf {path}: {process.returncode}")
    else:
        os.unlink(path)
    if os.path.dirname(path) in ("/usr/local/libexec", "/etc/systemd/journald.conf.d"):
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))


def mount_points(top: str) -> list[str]:
    """The mount points from a path on, the deepest first."""
    fields = (line.split() for line in read_text("/proc/self/mountinfo").splitlines())
    places = {re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field[4]) for field in fields}
    return sorted((place for place in places if place == top or place.startswith(f"{top}/")), key=len, reverse=True)


def empty(folder: str) -> None:
    """Remove all that a mount point holds but other mount points. Raises OSError."""
    if not os.path.isdir(folder):
        return
    mounts = mount_points(folder)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        process = run("rm", "-rf", "--one-file-system", "--", path, timeout=REMOVE_S)
        if process.returncode != 0 and not any(mount == path or mount.startswith(f"{path}/") for mount in mounts):
            raise OSError(process.stderr.strip().partition("\n")[0] or f"rm -rf {path}: {process.returncode}")


def owned_by(top: str, users: Sequence[pwd.struct_passwd]) -> list[str]:
    """Everything from a directory on that belongs to one of the users or to that one's group."""
    if not users:
        return []
    paths = [top] if _belongs(os.lstat(top), users) else []
    for folder, names, handle in _walk(top):
        entries = ((name, os.stat(name, dir_fd=handle, follow_symlinks=False)) for name in names)
        paths += [os.path.join(folder, name) for name, status in entries if _belongs(status, users)]
    return paths


def _belongs(status: os.stat_result, users: Sequence[pwd.struct_passwd]) -> bool:
    return any(status.st_uid == user.pw_uid or status.st_gid == user.pw_gid for user in users)


def _walk(top: str) -> Iterator[tuple[str, list[str], int]]:
    """Each directory from top on: its path, its entries and its descriptor. No link is followed. Raises OSError.

    Not os.fwalk: that opens what a link leads to before it looks.
    """
    if os.path.islink(top):
        return
    try:
        yield from _walk_from(top, top, None)
    except RecursionError:
        raise OSError(f"{top} holds directories in one another beyond counting: remove them by hand") from None


def _walk_from(folder: str, name: str, above: int | None) -> Iterator[tuple[str, list[str], int]]:
    handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        names = os.listdir(handle)
        yield folder, names, handle
        for each in names:
            if stat.S_ISDIR(os.stat(each, dir_fd=handle, follow_symlinks=False).st_mode):
                yield from _walk_from(os.path.join(folder, each), each, handle)
    finally:
        os.close(handle)


def accounts(options: dict[str, Any], remaining: list[str]) -> tuple[list[pwd.struct_passwd], str]:
    """The users and the group's name to remove; none and empty where there is none.

    Adds to `remaining` the users that no deployment made: by their comment, and by the number that the history has for
    the name. The group stays with them.
    """
    present, made = [user for user in pwd.getpwall() if user.pw_name in options["users"]], made_users()
    users = [
        user
        for user in present
        if made.get(user.pw_name, user.pw_uid) == user.pw_uid and user.pw_gecos.startswith(COMMENT)
    ]
    remaining += [f"user {user.pw_name}: no deployment made it, so it stays" for user in present if user not in users]
    group = options["group"] if options["group"] in {group.gr_name for group in grp.getgrall()} else ""
    return users, group if users == present else ""


def made_users() -> dict[str, int]:
    """{name: number} of the users that deployments made, by the history."""
    try:
        entries, _ = read_history(HISTORY)
    except OSError:
        return {}
    changes = " ".join(str(change) for entry in entries for change in entry.get("changed") or [])
    return {name: int(number) for name, number in re.findall(r"user (\S+) \(made, uid (\d+)\)", changes)}


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options = module.params
    remaining: list[str] = []
    problems: list[str] = []
    try:
        lock_host()
        foreign = foreign_units(options, remaining)
        ours = [unit for unit in options["units"] if unit not in foreign]
        units, paths = existing(ours), paths_to_remove(options, ours, remaining)
        adopted = [record for unit in ours if (record := read_adopted(unit))]
        users, group = accounts(options, remaining)
        emptied = {mount for path in paths for mount in mount_points(path)}
        remaining += [f"{mount}: a mount point, which is emptied and stays" for mount in sorted(emptied)]
        kept = [path for path in options["data"] if os.path.isdir(path)] if options["keep_data"] else []
        shown = [f"{unit} (stopped and disabled)" for unit in units] + [f"{path} (removed)" for path in paths]
        shown += [f"{path} (given to root)" for path in kept if owned_by(path, users)]
        shown += [f"{path} (put back as it was)" for record in adopted for path in paths_given_back(record)]
        shown += [f"user {user.pw_name} (removed)" for user in users] + [f"group {group} (removed)"] * bool(group)
        if shown and not module.check_mode:
            stop(module, units)
            remove_paths(units, paths)
            for path in kept:
                give_to_root(path, users)
            problems = [put_back_and_start(record) for record in adopted]
            remove_accounts(module, [user.pw_name for user in users], group)
    except (OSError, HostHeld, subprocess.SubprocessError) as problem:
        module.fail_json(msg=str(problem))
    for trouble in filter(None, problems):
        module.warn(f"What was taken over is back, and does not run as it did: {trouble}")
    remaining += [f"{path}: data; -e engine_data=absent and its host's name delete them" for path in kept]
    remaining.append("the journal, where the units' lines stay as long as journald keeps them")
    diff = {"before": "".join(f"{line}\n" for line in shown), "after": ""}
    module.exit_json(changed=bool(shown), paths=shown, remaining=remaining, diff=diff)


def stop(module: AnsibleModule, units: list[str]) -> None:
    """Stop and disable. Timers first: none may start what has been stopped. A service drains as at any stop."""
    for unit in sorted(units, key=lambda name: not name.endswith(".timer")):
        process = run("systemctl", "stop", unit, timeout=120)
        run("systemctl", "disable", unit)
        if run("systemctl", "is-active", "--quiet", unit).returncode == 0:
            module.fail_json(msg=f"{unit} does not stop: {process.stderr.strip()}. Its files are still there.")


def remove_paths(units: list[str], paths: list[str]) -> None:
    """Remove them, and have systemd and journald notice."""
    for path in paths:
        if os.path.lexists(path):
            remove(path)
    run("systemctl", "daemon-reload")
    for unit in units:
        run("systemctl", "reset-failed", unit)
    if any("journald.conf.d" in path for path in paths):
        run("systemctl", "restart", "systemd-journald.service")


def put_back_and_start(record: dict[str, Any]) -> str:
    """What a deployment took over, as it was; why it does not run, where it should."""
    put_back(record)
    return str(start_again(record))


def give_to_root(top: str, users: Sequence[pwd.struct_passwd]) -> None:
    """Give all of a directory that is the users' to root, and nothing that a link in it leads to."""
    _own(top, None, users)
    for _, names, handle in _walk(top):
        for name in names:
            _own(name, handle, users)


def _own(name: str, folder: int | None, users: Sequence[pwd.struct_passwd]) -> None:
    # O_PATH opens neither a FIFO nor a device, and what was looked at is what is changed.
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(handle)
        # What is only the group's, and has another name elsewhere, may be a file of root's that a user linked to.
        only_here = stat.S_ISDIR(status.st_mode) or status.st_nlink == 1
        if _belongs(status, users) and (only_here or status.st_uid in {user.pw_uid for user in users}):
            os.chown(f"/proc/self/fd/{handle}", 0, 0)
            if not stat.S_ISLNK(status.st_mode):
                os.chmod(f"/proc/self/fd/{handle}", 0o700 if stat.S_ISDIR(status.st_mode) else 0o600)
    finally:
        os.close(handle)


def remove_accounts(module: AnsibleModule, users: Sequence[str], group: str) -> None:
    for argv in [["userdel", user] for user in users] + ([["groupdel", group]] if group else []):
        process = run(*argv)
        if process.returncode not in (0, 6):  # 6: a user's own group is removed with the user
            module.fail_json(msg=f"{' '.join(argv)}: {process.stderr.strip()}. Everything else is removed.")


if __name__ == "__main__":
    main()
