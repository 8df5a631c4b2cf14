"""Find how a host differs from what was deployed to it, and which deployment put the expected state there.

The only program that looks for drift: `make verify` asserts that it finds none, hybrid-drift-check.timer runs it on the
host, and release_tree compares a release with it. It only reads, and is one file of the standard library, so that it
also works where no release does.

The history of deployments has one JSON object a line, appended by the module deployment_history: {when, what, of,
outcome, by, ssh_user, from, address, revision, release, config_digest, changed, tried, why}.
"""

import errno
import functools
import glob
import grp
import hashlib
import json
import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Entry = dict[str, Any]  # a line of the history, with "line": its number

HISTORY = "/var/log/hybrid-engine/deployments.jsonl"
REMEMBERED = "/var/lib/hybrid-deploy"
DEPLOYED = f"{REMEMBERED}/deployed"
ROLLED_BACK = f"{REMEMBERED}/rolled-back"
RELEASES = "/opt/hybrid-engine/releases"
CURRENT = "/opt/hybrid-engine/current"
UNRECORDED = f"{REMEMBERED}/unrecorded.json"  # what a change replaced, until the history has it
PROOF_LOCK = "/run/hybrid-proofs/lock"
RECORDER = "hybrid-health-snapshot"
MANIFEST = "release.json"
BYTECODE = "bytecode.json"
# Units that may run the engine's code beside its own unit: candidates, proofs, and programs that ask how it is.
OTHER_UNITS = re.compile(
    r"/(hybrid-engine-candidate|hybrid-proof-[^/]+|hybrid-(soak|health-snapshot|drift-check))\.service"
)
# Of the interpreter that runs a release: its version, its machine and its glibc.
_FACTS = """
import os, sys
version, libc = ".".join(map(str, sys.version_info[:2])), (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")[2]
print(version, os.uname().machine, libc)
"""
READERS = {"health", "config", "version", "capture"}
# What is looked for; tests/verify has an assertion for each.
RULES = (
    *("deployed files", "deployed links", "rolled-back drop-ins", "unmanaged drop-ins", "unread units", "recorder"),
    *("release contents", "release bytecode", "release ownership", "release directories"),
    *("running", "user", "group", "directory", "running release", "running configuration", "second copies"),
)


class Difference(NamedTuple):
    """One difference. rule: of RULES; text: a sentence that names the history's line for the expected state."""

    rule: str
    text: str


def read_history(path: str) -> tuple[list[Entry], list[int]]:
    """The lines of a history, oldest first, and the numbers of the unreadable ones. A missing file has no lines.

    Raises OSError where something else stands in its place.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as stream:
            lines = stream.read().split(b"\n")
    except FileNotFoundError:
        return [], []
    entries: list[Entry] = []
    unreadable: list[int] = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict) and isinstance(value.get("when"), str):
            entries.append({**value, "line": number})
        elif line:
            unreadable.append(number)
    return entries, unreadable


def origin(history: Sequence[Entry], *paths: str) -> Entry | None:
    """The newest successful entry that changed the first of the paths that any entry names."""
    for path in paths:
        for entry in reversed(history):
            changed = {str(change).partition(" (")[0] for change in entry.get("changed") or []}
            if entry.get("outcome") in ("done", "cut off") and path in changed:
                return entry
    return None


def describe(entry: Entry | None) -> str:
    """An entry of the history in a few words."""
    if entry is None:
        return "deployed before the history began"
    what = " ".join(str(entry[key]) for key in ("what", "of") if entry.get(key))
    return f"line {entry['line']} of the history: {what}, {entry['when'][:19]}Z, by {entry.get('by') or 'somebody'}"


def find_drift(unit: str) -> list[Difference]:
    """Every way in which the host differs from what was deployed."""
    unread: list[Difference] = []
    try:
        history, _ = read_history(HISTORY)
    except OSError as error:
        history, unread = [], [Difference("deployed files", f"{HISTORY} {error.strerror}")]
    copies = (Difference("second copies", text) for text in second_copies(unit))
    return [*unread, *_deployed(history, unit), *_release(history), *_process(history, unit), *copies]


def _deployed(history: Sequence[Entry], unit: str) -> Iterator[Difference]:
    """Compare units, drop-ins, programs, configuration and links with the records of the deployments."""
    if not os.path.exists(f"{DEPLOYED}/{unit}.json"):
        yield Difference("deployed files", f"{unit} was never deployed here: {DEPLOYED} has no record of it")
    records = {os.path.basename(path): read_json(path) for path in sorted(glob.glob(f"{DEPLOYED}/*.json"))}
    deployed = {path for record in records.values() for path in record.get("files", {})}
    rolled_back = {os.path.basename(path) for path in glob.glob(f"{ROLLED_BACK}/{unit}/*.conf")}
    for name, record in records.items():
        recorder = "recorder" if name.startswith(RECORDER) else ""
        for path, expected in {**record.get("files", {}), **record.get("directories", {})}.items():
            if f"/{unit}.d/" in path and os.path.basename(path) in rolled_back:
                if os.path.exists(path):
                    text = f"{path} is rolled back, and there all the same: remove it, or restore it by name"
                    yield Difference("rolled-back drop-ins", text)
                continue
            for wrong in _differences(path, expected):
                text = f"{path}: {wrong} ({describe(origin(history, path))})"
                yield Difference(recorder or "deployed files", text)
        for path, target in record.get("links", {}).items():
            if (actual := read_link(path) or "nothing") != target:
                text = f"{path} leads to {actual} where {target} was deployed ({describe(origin(history, path))})"
                yield Difference("deployed links", text)
        for path in record.get("files", {}):
            if path.endswith((".service", ".timer")):
                yield from _systemd(path, deployed, recorder, describe(origin(history, path)))


def _differences(path: str, expected: Mapping[str, str]) -> Iterator[str]:
    """How a file or directory differs from its record."""
    try:
        status = os.lstat(path)
    except OSError:
        yield "missing"
        return
    try:
        ids = {"uid": pwd.getpwnam(expected["owner"]).pw_uid, "gid": grp.getgrnam(expected["group"]).gr_gid}
    except KeyError:
        yield f"belongs to {expected['owner']}:{expected['group']}, a user or group that is missing here"
        return
    kind = stat.S_ISREG if "sha256" in expected else stat.S_ISDIR
    if not kind(status.st_mode):
        yield "another kind of file was deployed"
        return
    actual = {"uid": status.st_uid, "gid": status.st_gid, "mode": f"{stat.S_IMODE(status.st_mode):04o}"}
    desired: dict[str, int | str] = {**ids, "mode": expected["mode"]}
    if "sha256" in expected:
        actual["sha256"], desired["sha256"] = file_sha256(path), expected["sha256"]
    for key, value in desired.items():
        if actual[key] != value:
            yield f"{key} {actual[key]} where {value} was deployed"


def _systemd(path: str, deployed: set[str], recorder: str, source: str) -> Iterator[Difference]:
    """Whether systemd has read a unit's files, and no drop-in but those deployed."""
    unit = os.path.basename(path)
    shown = _show(unit, "DropInPaths", "NeedDaemonReload")
    # A distribution's own drop-ins for all services lie elsewhere.
    unmanaged = [
        name for name in shown.get("DropInPaths", "").split() if f"/{unit}.d/" in name and name not in deployed
    ]
    if unmanaged:
        text = f"unmanaged drop-ins are in force: {', '.join(unmanaged)}; remove them, or deploy them ({source})"
        yield Difference(recorder or "unmanaged drop-ins", text)
    if shown.get("NeedDaemonReload") == "yes":
        text = f"{unit} changed on the disk since systemd read it: deploy, or systemctl daemon-reload"
        yield Difference(recorder or "unread units", text)


def _release(history: Sequence[Entry]) -> Iterator[Difference]:
    """Compare the live release with what was built and compiled."""
    home = os.path.realpath(CURRENT)
    source = f"in {home} ({describe(origin(history, CURRENT, home))})"
    differences = compare_release(home)
    if differences is None:
        yield Difference("release contents", f"{MANIFEST} is missing, or lists another release, {source}")
    if unmet := unmet_needs(home):
        yield Difference("release contents", f"{unmet}: deploy again, which brings one that fits, {source}")
    for path, wrong in sorted((differences or {}).items()):
        if wrong not in ("altered", "missing"):
            yield Difference("release ownership", f"{path}: {wrong}, {source}")
        elif path.endswith(".pyc"):
            yield Difference("release bytecode", f"{path} is not as it was compiled, {source}")
        else:
            yield Difference("release contents", f"{path} is not as it was built, but {wrong}, {source}")
    for path in (os.path.dirname(RELEASES), RELEASES, REMEMBERED):
        if wrong := directory_difference(path):
            text = f"{path}: {wrong} where root's 0755 belongs: others could replace a release"
            yield Difference("release directories", text)


def compare_release(home: str) -> dict[str, str] | None:
    """As release_differences, by the release's own records; None where its manifest does not belong to its name."""
    files: dict[str, str] = read_json(f"{home}/{MANIFEST}").get("files", {})
    if not home.endswith(f"-{content_digest(files)[:12]}"):
        return None
    compiled = {path: sha for path, sha in read_json(f"{home}/{BYTECODE}").get("files", {}).items() if sha}
    return release_differences(home, {MANIFEST: None, BYTECODE: None, **files, **compiled})


def unmet_needs(home: str) -> str:
    """What the release in `home` needs and this host does not have, as a sentence; "" where it can run here."""
    about = read_json(f"{home}/{MANIFEST}")
    interpreter = str(about.get("interpreter") or "/usr/bin/python3")
    try:
        facts = subprocess.run([interpreter, "-ISc", _FACTS], capture_output=True, text=True, timeout=30, check=True)
        version, machine, libc = facts.stdout.split(" ")
    except (OSError, subprocess.SubprocessError, ValueError):
        return f"the release needs {interpreter}, which does not run on this host"
    present = {"python": version, "machine": machine}
    unmet = [
        f"{name} {about[name]} and this host has {present[name]}"
        for name in present
        if about.get(name, present[name]) != present[name]
    ]
    if _version(libc) < _version(about.get("glibc")):
        unmet.append(f"glibc {about['glibc']} and this host has {libc.strip()}")
    return f"the release needs {', '.join(unmet)}" if unmet else ""


def _version(text: object) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", str(text or ""))]


def release_differences(home: str, desired: Mapping[str, str | None]) -> dict[str, str]:
    """{path: how it differs} below a release's directory: kind, owner, mode, contents, and what does not belong there.

    wanted: {path: SHA-256} by paths relative to home; None is a file that may be there, whatever it holds. A key that
    ends in a slash is a directory. Values: "altered", "missing", "not part of the release", "not a regular file", "not
    a directory", or "owner U:G", "mode MMMM", or both.
    """
    differences: dict[str, str] = {}
    present: set[str] = set()
    folders = {""}
    for path in desired:
        while path := os.path.dirname(path):
            folders.add(path)
    for folder in sorted(folders):
        place = os.path.join(home, folder)
        try:
            status = os.lstat(place)
        except OSError:
            continue  # its files are missing, and named below
        if not stat.S_ISDIR(status.st_mode):
            differences[folder] = "not a directory"
            continue
        if wrong := ownership(status, 0o755):
            differences[f"{folder}/"] = wrong
        for entry in os.scandir(place):
            path = os.path.join(folder, entry.name)
            status = entry.stat(follow_symlinks=False)
            if path in folders:
                continue
            if path not in desired:
                differences[path + "/" * stat.S_ISDIR(status.st_mode)] = "not part of the release"
            elif not stat.S_ISREG(status.st_mode):
                differences[path] = "not a regular file"
            else:
                present.add(path)
                if wrong := ownership(status, release_mode(path)):
                    differences[path] = wrong
    for path, sha in desired.items():
        if sha is not None and path not in differences:
            if path not in present:
                differences[path] = "missing"
            elif file_sha256(os.path.join(home, path)) != sha:
                differences[path] = "altered"
    return differences


def release_mode(path: str) -> int:
    """The mode of a release's file."""
    return 0o755 if path.startswith("bin/") else 0o644


def ownership(status: os.stat_result, mode: int) -> str:
    """How owner and mode differ from root's and `mode`; empty where they do not."""
    wrong = []
    if (status.st_uid, status.st_gid) != (0, 0):
        wrong.append(f"owner {status.st_uid}:{status.st_gid}")
    if stat.S_IMODE(status.st_mode) != mode:
        wrong.append(f"mode {stat.S_IMODE(status.st_mode):04o}")
    return ", ".join(wrong)


def directory_difference(path: str) -> str:
    """How an existing directory differs from one of root's that only root may write to; empty where it does not."""
    return ownership(os.lstat(path), 0o755) if os.path.isdir(path) else ""


def content_digest(files: Mapping[str, str]) -> str:
    """Digest of a tree from its {path: SHA-256}; it depends on no date, mode, owner or machine."""
    return hashlib.sha256("".join(f"{path}\0{files[path]}\n" for path in sorted(files)).encode()).hexdigest()


def file_sha256(path: str) -> str:
    """Hex SHA-256 of a file's contents; OSError as open_regular() raises it."""
    with os.fdopen(open_regular(path), "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_regular(path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a regular file, and nothing else that may stand in its place; returns its descriptor.

    For paths in directories of another user: root that opens them by name would follow a link to any file, and wait for
    the writer of a FIFO. What is there is looked at before it is opened (O_PATH), and what was looked at is opened. In
    another user's directory a file has to be that user's, root's or ours, under one name only.

    Raises OSError, with what stands there.
    """
    folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = os.path.basename(path)
        try:
            handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
            return os.open(name, flags | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
        try:
            if wrong := irregular(os.fstat(handle), os.fstat(folder).st_uid):
                raise OSError(errno.ELOOP, f"{wrong}, and was not opened", path)
            return os.open(f"/proc/self/fd/{handle}", flags & ~os.O_CREAT | os.O_CLOEXEC)
        finally:
            os.close(handle)
    finally:
        os.close(folder)


def irregular(status: os.stat_result, folder_owner: int) -> str:
    """Why an entry of a directory is not to be opened as a file; empty where it is. status: of the entry itself."""
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(status.st_mode):
        return f"is {kinds.get(stat.S_IFMT(status.st_mode), 'a device')} where a file belongs"
    if folder_owner not in (0, os.geteuid()):
        if status.st_uid not in (0, os.geteuid(), folder_owner):
            return f"belongs to the user {status.st_uid} in a directory of {folder_owner}"
        if status.st_nlink > 1:
            return f"has {status.st_nlink} names in a directory of {folder_owner}"
    return ""


def _process(history: Sequence[Entry], unit: str) -> Iterator[Difference]:
    """Compare the running engine with what was deployed: user, directory, release and configuration."""
    name = unit.removesuffix(".service")
    shown = _show(unit, "MainPID", "WorkingDirectory")
    deployments = [entry for entry in history if entry.get("outcome") == "done"]
    last, source = (deployments[-1] if deployments else {}), describe(origin(history, f"/etc/systemd/system/{unit}"))
    pid = shown.get("MainPID", "0")
    if pid == "0":
        yield Difference("running", f"{unit} does not run: see journalctl -u {unit} ({source})")
        return
    status = dict(line.split(":", 1) for line in read_text(f"/proc/{pid}/status").splitlines() if ":" in line)
    for rule, key in (("user", "Uid"), ("group", "Gid")):
        actual, number = status.get(key, "").split(), _id(name, rule)
        if actual != [number] * 4 or number == "0":
            text = f"the process runs as {rule} {' '.join(actual)} where {name} ({number}) belongs ({source})"
            yield Difference(rule, text)
    home, cwd, configured = f"/var/lib/{name}", read_link(f"/proc/{pid}/cwd"), shown.get("WorkingDirectory")
    if cwd != home or configured != home:
        text = f"in {cwd}, with WorkingDirectory={configured}, where {home} belongs ({source})"
        yield Difference("directory", f"the process works elsewhere than in its state directory: {text}")
    running = running_values(unit)
    release = read_json(f"{CURRENT}/{MANIFEST}")
    for key, expected in (("release_name", release.get("name")), ("release_digest", release.get("digest"))):
        if expected and running.get(key, expected) != expected:
            text = f"the process runs with {key} {running[key]} where {expected} was deployed: restart {unit}"
            yield Difference("running release", f"{text} ({describe(origin(history, CURRENT))})")
    digest = last.get("config_digest")
    if digest and running.get("config_digest", digest) != digest:
        text = f"the process runs with config_digest {running['config_digest']} where {digest} was deployed"
        yield Difference("running configuration", f"{text} ({describe(last)})")


@functools.cache
def running_values(unit: str) -> dict[str, str]:
    """Release and configuration of the running engine, as its row in the database has them; empty where none runs.

    Not as its log has them, which may have lost the lines of its start. The engine's own user reads the database. The
    sandbox of hybrid-drift-check.service may not become that user: there root does, who can write nothing.
    """
    name = unit.removesuffix(".service")
    health = (f"{CURRENT}/bin/{name}", "health", "--json")
    try:
        answer = _run("setpriv", f"--reuid={name}", f"--regid={name}", "--clear-groups", *health) or _run(*health)
        run = json.loads(answer)["run"]
        if run["ended_ms"] is not None:
            return {}
        release = {"release_name": f"{run['version']}-{run['release_digest'][:12]}"}
        return release | {key: str(run[key]) for key in ("release_digest", "config_digest")}
    except (ValueError, LookupError, TypeError, RecursionError, OSError, subprocess.SubprocessError):
        return {}


def second_copies(unit: str) -> list[str]:
    """Processes that run the engine's code and are not the unit's: an old copy, or one started by hand."""
    ancestors, pid = set[int](), os.getpid()
    while pid > 1 and pid not in ancestors:  # their command lines may hold this very program's text
        ancestors.add(pid)
        pid = _parent(pid)
    copies = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        cgroup = read_text(f"/proc/{pid}/cgroup")
        if pid not in ancestors and f"/{unit}" not in cgroup and not OTHER_UNITS.search(cgroup):
            argv = read_text(f"/proc/{pid}/cmdline").split("\0")
            program, cwd = read_link(f"/proc/{pid}/exe"), read_link(f"/proc/{pid}/cwd")
            if word := runs_engine(program, argv, cwd):
                owner = cgroup.strip().rpartition("\n")[2].rpartition("/")[2] or "no unit"
                copies.append(f"process {pid} of {owner} runs the engine beside {unit}: {word}, in {cwd}")
    return copies


def runs_engine(program: str, argv: Sequence[str], cwd: str) -> str:
    """The word by which a process is recognised as an engine, else empty. Other words may be secret."""
    name = os.path.basename(program)
    if name in ("hybrid-engine", "hybrid_engine"):
        return program
    if not name.startswith(("python", "pypy")):
        return ""  # an editor or a shell in a checkout runs no engine
    for at, word in enumerate(argv[1:], 1):
        script = os.path.basename(word) == "hybrid-engine"
        module = argv[at - 1] == "-m" and word.split(".")[0] == "hybrid_engine"
        if script or module or "/hybrid_engine/" in f"/{word}":
            return "" if at + 1 < len(argv) and argv[at + 1] in READERS else word[:200]
    return cwd if "hybrid_engine" in cwd.split("/") else ""


def _parent(pid: int) -> int:
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _id(name: str, kind: str) -> str:
    """A user's or a group's number as text."""
    try:
        return str(pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid)
    except KeyError:
        return "missing"


def read_text(path: str) -> str:
    """A file's text; empty where it cannot be read."""
    try:
        with os.fdopen(open_regular(path), encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def read_json(path: str) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        value = json.loads(read_text(path))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout


def _show(unit: str, *keys: str) -> dict[str, str]:
    lines = _run("systemctl", "show", f"--property={','.join(keys)}", unit).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _proof() -> str:
    """The proof that holds this host, and changes it on purpose; empty where none does. The lock is not touched."""
    try:
        status = os.stat(PROOF_LOCK)
    except OSError:
        return ""
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino} "
    locked = any("FLOCK" in line and inode in line for line in read_text("/proc/locks").splitlines())
    return read_text(PROOF_LOCK).partition("\n")[0] if locked else ""


def main() -> int:
    """Print a line of JSON for each difference; exit status 1 where there is one, so that the unit fails visibly."""
    if proof := _proof():
        print(json.dumps({"drift": None, "note": f"not compared: a proof holds this host ({proof})"}))
        return 0
    try:
        differences = find_drift("hybrid-engine.service")
    except OSError as error:
        print(json.dumps({"drift": f"not compared: {error.filename} {error.strerror}"}))
        return 1
    for difference in differences:
        print(json.dumps({"drift": difference.text}))
    if not differences:
        print(json.dumps({"drift": None, "note": "as deployed"}))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
