"""What others put where a service is to be: found, taken over with its files kept byte for byte, and given back.

A service is somebody else's as long as no deployment has recorded it. What is taken over is kept, as it was, in one
record, from which a rollback and an uninstall put it back.
"""

import contextlib
import glob
import json
import os
import pwd
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible.module_utils.drift import (
    HISTORY,
    REMEMBERED,
    directory_difference,
    open_regular,
    read_history,
    read_json,
    read_link,
    read_text,
)
from ansible.module_utils.service_changes import Change, State, difference, put, snapshot
from ansible.module_utils.service_unit import UNITS, deployed_file, run, show, transaction_file

ADOPTED = f"{REMEMBERED}/adopted"
# Settings by which a drop-in decides what runs; a candidate of the release would not be what will run.
DECIDING = re.compile(r"^\s*(ExecStart|User|Group|Type|WorkingDirectory|Root\w+|DynamicUser)\s*=", re.M)
PACKAGED = ("/usr/", "/lib/")
SQLITE, APPLICATION_AT = b"SQLite format 3\0", 68  # https://www.sqlite.org/fileformat.html#the_database_header


class Foreign(NamedTuple):
    """What others put there. found: sentences; blocking: sentences about what its owner has to move away first."""

    found: list[str]
    blocking: list[str]


def adopted_file(unit: str) -> str:
    """The record of what a deployment took over."""
    return f"{ADOPTED}/{unit}.json"


def is_recorded(unit: str) -> bool:
    """Whether the service is a deployment's, also one that was cut off."""
    return os.path.exists(deployed_file(unit)) or os.path.exists(transaction_file(unit))


def foreign_dropins(shown: Mapping[str, str], unit: str, ours: Sequence[str]) -> list[str]:
    """Drop-ins of this unit alone, in force or waiting to be read, that are not among ours."""
    paths = {*shown.get("DropInPaths", "").split(), *glob.glob(f"{UNITS}/{unit}.d/*.conf")}
    # A distribution's own drop-ins for all services are its business.
    return sorted(path for path in paths if f"/{unit}.d/" in path and path not in ours)


def look(unit: str, user: str, places: Sequence[State], root: str, database: str, application: int) -> Foreign:
    """What others put where a service is to be.

    places: what a deployment replaces there, as {path, kind, owner, group, mode} each. root: the directory of the
    releases; database: the file in the service's own directory; application: the id in that file's header.
    """
    if is_recorded(unit):
        return Foreign([], [])
    shown = show(unit)
    found = [*_service(shown, unit), *_accounts(shown, user)]
    blocking = [
        f"{path} is a package's and would change the engine's unit: remove that package, or mask the drop-in"
        for path in foreign_dropins(shown, unit, [])
        if path.startswith(PACKAGED)
    ]
    if not _deployed_before():  # else these are left from then
        for desired in places:
            now = snapshot(desired["path"])
            same = desired["kind"] == "directory" and not difference(desired, now)
            if now["kind"] != "absent" and not same:
                found.append(f"{desired['path']} is there ({_described(now)}): it would be replaced")
        if wrong := directory_difference(root):
            blocking.append(f"{root} is there ({wrong}), and only root may write to it: give it to root, mode 0755")
        blocking += _state_directory(os.path.dirname(database), user)
    blocking += _database(database, application)
    return Foreign(found, blocking)


def _service(shown: Mapping[str, str], unit: str) -> Iterator[str]:
    if shown.get("LoadState") not in ("loaded", "masked", "bad-setting", "error"):
        return
    pid, path = shown.get("MainPID", "0"), shown.get("FragmentPath") or "no file"
    if pid != "0":
        program = read_link(f"/proc/{pid}/exe") or "a program that has ended"
        yield f"{unit} runs here: process {pid} of {_owner(pid)}, {program}, by {path}. It would be replaced"
        for name in _databases(pid):
            yield f"Its database {name} would stay where it is, and a new one would begin"
    else:
        yield f"{unit} is installed here ({shown.get('ActiveState')}), by {path}. It would be replaced"
    for dropin in foreign_dropins(shown, unit, []):
        sets = sorted(set(re.findall(r"^\s*(\w+)\s*=", read_text(dropin), re.M)))
        yield f"{dropin} changes it ({', '.join(f'{name}=' for name in sets) or 'nothing'}), and would be taken out"


def _owner(pid: str) -> str:
    try:
        return pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name
    except (OSError, KeyError):
        return "an unknown user"


def _databases(pid: str) -> list[str]:
    links = (read_link(path) for path in glob.glob(f"/proc/{pid}/fd/*"))
    return sorted({link for link in links if re.search(r"\.(db|sqlite3?)$", link)})


def _accounts(shown: Mapping[str, str], user: str) -> Iterator[str]:
    runs_as = shown.get("User") or "root"
    if shown.get("LoadState") == "loaded" and runs_as != user:
        yield f"It runs as {runs_as}, who would stay as is; the engine would run as {user}"


def _described(now: State) -> str:
    if now["kind"] == "link":
        return f"a link to {now['target']}"
    return f"a {now['kind']} of {now['uid']}:{now['gid']}, mode {now['mode']:04o}"


def _deployed_before() -> bool:
    """Whether a deployment was here before: an uninstall leaves its history with the data."""
    try:
        return bool(read_history(HISTORY)[0])
    except OSError:
        return False


def _state_directory(path: str, user: str) -> Iterator[str]:
    """systemd gives a service's directory to its user, with everything in it."""
    now = snapshot(path)
    if now["kind"] != "absent" and (now["kind"] != "directory" or os.listdir(path)):
        yield f"{path} is there ({_described(now)}) and would be given to {user} with all that is in it: move it away"


def _database(path: str, application: int) -> Iterator[str]:
    try:
        with os.fdopen(open_regular(path), "rb") as stream:
            header = stream.read(100)
    except OSError:
        return
    if header and (not header.startswith(SQLITE) or _application(header) != application):
        yield f"{path} is another program's database: move it away, or set engine_db_path"


def _application(header: bytes) -> int:
    return int(struct.unpack_from(">I", header, APPLICATION_AT)[0]) if len(header) >= APPLICATION_AT + 4 else -1


# Taking over, and giving back -----------------------------------------------------------------------------------------


def adopted_dropins(unit: str, states: Sequence[State], before: Mapping[str, State], *, adopts: bool) -> list[State]:
    """The drop-ins of others that are taken over, as states in which they are gone.

    before: what a change that was cut off was about to replace.
    """
    ours = [str(each["path"]) for each in states]
    cut_off = [path for path, state in before.items() if state["kind"] != "absent"]
    paths = foreign_dropins(show(unit), unit, ours) if adopts else cut_off
    return [{"path": path, "kind": "absent"} for path in paths if f"/{unit}.d/" in path and path not in ours]


def adopted_record(unit: str, changes: Sequence[Change], desired: Sequence[State]) -> State:
    """The record of everything that the changes replace, itself a file; to be made before them.

    desired: all that is to be there, with what is there as it should be already.
    """
    shown = show(unit)
    changed = {change.path for change in changes}
    states = {change.path: {**change.now, **_times(change.path)} for change in changes}
    record = {
        "unit": unit,
        "active": shown.get("ActiveState") in ("active", "activating"),
        "enabled": shown.get("UnitFileState") == "enabled",
        "same": [path for each in desired if (path := str(each["path"])) not in changed],
        "states": states,
    }
    text = json.dumps(record, indent=1, sort_keys=False) + "\n"
    return {"path": adopted_file(unit), "kind": "file", "mode": "0600", "content": text, "record": True, "secret": True}


def _times(path: str) -> dict[str, int]:
    return {"mtime_ns": os.lstat(path).st_mtime_ns} if os.path.isfile(path) and not os.path.islink(path) else {}


def read_adopted(unit: str) -> dict[str, Any]:
    """The record of what was taken over; empty where nothing was."""
    record = read_json(adopted_file(unit))
    return record if isinstance(record.get("states"), dict) else {}


def paths_given_back(record: Mapping[str, Any]) -> list[str]:
    """What was there before, in the order in which it is put back."""
    return [path for path, state in record.get("states", {}).items() if state["kind"] != "absent"]


def put_back(record: Mapping[str, Any]) -> None:
    """Put back all that was taken over, and remove what was not there."""
    for path, state in reversed(list(record["states"].items())):
        if state["kind"] == "absent":
            put(path, state)
    for path in paths_given_back(record):
        state = record["states"][path]
        put(path, state)
        if "mtime_ns" in state:
            os.utime(path, ns=(state["mtime_ns"], state["mtime_ns"]), follow_symlinks=False)


def give_back(unit: str) -> list[str]:
    """Put the service back that a deployment took over, without starting it; the paths that changed.

    Everything that deployments have added since goes. The record goes last, so that one who is cut off can go on.
    """
    record, deployed = read_adopted(unit), read_json(deployed_file(unit))
    there = {*record["states"], *record.get("same", [])}
    added = [path for path in (*deployed.get("files", {}), *deployed.get("links", {})) if path not in there]
    for path in added:
        put(path, {"kind": "absent"})
    put_back(record)
    if f"{UNITS}/{unit}.d" not in record["states"]:
        with contextlib.suppress(OSError):  # others may have put something there since
            os.rmdir(f"{UNITS}/{unit}.d")
    os.unlink(adopted_file(unit))
    with contextlib.suppress(OSError):
        os.rmdir(ADOPTED)
    return sorted({*added, *record["states"]})


def start_again(record: Mapping[str, Any]) -> str:
    """Enable and start a service that was put back, as it was; why that failed, empty where it did not."""
    unit = str(record["unit"])
    run("systemctl", "daemon-reload")
    run("systemctl", "disable", unit)
    verbs = [["enable"]] * bool(record.get("enabled")) + [["restart"] if record.get("active") else ["stop"]]
    for verb in verbs:
        process = run("systemctl", *verb, unit, timeout=120)
        if process.returncode != 0:
            return f"systemctl {verb[0]} {unit}: {process.stderr.strip()}"
    return ""
