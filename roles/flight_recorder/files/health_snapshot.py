#!/usr/bin/python3
"""The flight recorder: record the state of host and engine as one line of JSON, or show the recorded lines.

One file of the standard library, installed on hosts as hybrid-health-snapshot, so that it also records when no release
works. It reads as an operator would. What cannot be read is named in `missing`, and is no failure.
"""

import argparse
import errno
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

FOLDER = Path("/var/lib/hybrid-health-snapshot")
ENGINE = "hybrid-engine"
UNIT = f"{ENGINE}.service"
STATE = f"/var/lib/{ENGINE}"
LIVE = f"/opt/{ENGINE}/current"
HEALTH = (f"{LIVE}/bin/{ENGINE}", "health", "--json", "--unit", UNIT)
TIMEOUT_S = 20.0  # no command may take longer
MAX_TEXT = 200  # characters of any text in a record
KINDS = ("cpu", "memory", "io")
NUMBERS = ("MainPID", "NRestarts", "ExecMainStatus", "CPUUsageNSec")
WORDS = ("ActiveState", "SubState", "Result", "ExecMainStartTimestamp", "InvocationID", "ControlGroup", "MemoryCurrent")
_DAY = re.compile(r"\d{4}-\d\d-\d\d\.jsonl")
_PSI = re.compile(r"(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)")
Record = dict[str, Any]


class Snapshot:
    """One reading of the host. `missing`: what could not be read, and why."""

    def __init__(self, proc: Path = Path("/proc"), health: Sequence[str] = HEALTH) -> None:
        self.proc, self.health = proc, health
        self.missing: list[str] = []

    def record(self, now: datetime) -> Record:
        unit = self._unit()
        health, run = self._health()
        return {
            "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "uptime_s": self._numbers("uptime", 1)[0],
            "load": self._numbers("loadavg", 3),
            "psi": {
                "unit": self._psi("unit", self._cgroup(unit.pop("ControlGroup", "")), "{}.pressure"),
                "host": self._psi("host", self.proc / "pressure", "{}"),
            },
            "memory": self._memory(unit.pop("MemoryCurrent", "")),
            "disk": self._disk(),
            "engine": {**unit, "release": self._release()},
            "health": health,
            "run": run,
            "missing": self.missing,
        }

    def _note_missing(self, what: str, why: object) -> None:
        self.missing.append(f"{what}: {str(why)[:MAX_TEXT]}")

    def _text(self, what: str, path: Path) -> str:
        try:
            return path.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            self._note_missing(what, error.strerror or error)
            return ""

    def _numbers(self, name: str, count: int) -> list[float | None]:
        words = self._text(name, self.proc / name).split()[:count]
        return [_number(word) for word in words] or [None] * count

    def _run(self, what: str, argv: Sequence[str]) -> str:
        try:
            process = subprocess.run(
                argv, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, errors="replace"
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._note_missing(what, error)
            return ""
        if not process.stdout.strip():
            self._note_missing(what, f"exit {process.returncode}: {process.stderr.strip()[-MAX_TEXT:]}")
        return process.stdout

    def _unit(self) -> Record:
        """What systemd shows of the unit, numbers as numbers."""
        output = self._run("engine", ["systemctl", "show", f"--property={','.join(WORDS + NUMBERS)}", "--", UNIT])
        pairs = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        values: Record = {name: pairs[name][:MAX_TEXT] for name in WORDS if pairs.get(name)}
        return values | {name: _number(pairs[name]) for name in NUMBERS if pairs.get(name)}

    def _cgroup(self, group: str) -> Path | None:
        """The unit's directory in the hierarchy of cgroup v2, wherever that is mounted."""
        for line in self._text("mounts", self.proc / "self" / "mountinfo").splitlines():
            mount, _, file_system = line.partition(" - ")
            if group and file_system.startswith("cgroup2 "):
                return Path(mount.split()[4], group.lstrip("/"))
        return None

    def _psi(self, whose: str, folder: Path | None, name: str) -> Record | None:
        """By kind: {"some": [avg10, avg60, avg300, total in us], "full": ...}; None where nothing can be read."""
        if folder is None:
            self._note_missing(f"psi of {whose}", "it has no cgroup now")
            return None
        result = {}
        for kind in KINDS:
            lines = _PSI.findall(self._text(f"psi of {whose}, {kind}", folder / name.format(kind)))
            if lines:
                result[kind] = {word: [float(a), float(b), float(c), int(total)] for word, a, b, c, total in lines}
        return result or None

    def _memory(self, unit_bytes: str) -> Record:
        """In MB; `unit` is the engine's cgroup, page cache included."""
        pairs = dict(re.findall(r"^(\w+):\s+(\d+) kB$", self._text("memory", self.proc / "meminfo"), re.M))
        names = {"total": "MemTotal", "available": "MemAvailable", "swap_total": "SwapTotal", "swap_free": "SwapFree"}
        result = {name: int(pairs[key]) // 1024 if key in pairs else None for name, key in names.items()}
        current = _number(unit_bytes)
        if current is None:
            self._note_missing("memory of unit", unit_bytes or "unknown")
        return {**result, "unit": None if current is None else round(current / 2**20, 1)}

    def _disk(self) -> Record:
        """By directory: MB and inodes; `database` is what the engine's files take."""
        result: Record = {}
        for place in ("/", STATE):
            try:
                at = os.statvfs(place)
            except OSError as error:
                self._note_missing(f"disk at {place}", error.strerror or error)
                continue
            total, free = (blocks * at.f_frsize >> 20 for blocks in (at.f_blocks, at.f_bavail))
            result[place] = {"total": total, "free": free, "inodes_free": at.f_favail}
        try:
            entries = [entry.stat(follow_symlinks=False) for entry in os.scandir(STATE)]
            sizes = [entry.st_size for entry in entries if stat.S_ISREG(entry.st_mode)]
            result["database"] = round(sum(sizes) / 2**20, 1)
        except OSError as error:
            self._note_missing("database", error.strerror or error)
        return result

    def _release(self) -> str | None:
        try:
            return Path(os.readlink(LIVE)).name
        except OSError as error:
            self._note_missing("release", error.strerror or error)
            return None

    def _health(self) -> tuple[Record, Record | None]:
        """The engine's own verdict, with what failed; and its newest run's counters."""
        try:
            answer = json.loads(self._run("health", self.health) or "null")
            failed = {str(c["name"])[:40]: str(c["detail"])[:MAX_TEXT] for c in answer["checks"] if not c["ok"]}
            run = answer.get("run")
            values = {k: v[:12] if isinstance(v, str) else v for k, v in run.items()} if run else None
            return {"healthy": answer["healthy"] is True, "failed": dict([*failed.items()][:20])}, values
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if not any(entry.startswith("health") for entry in self.missing):
                self._note_missing("health", f"no answer that can be read ({type(error).__name__})")
            return {"healthy": None, "failed": {}}, None


def _number(text: str) -> float | int | None:
    """A text as a number; None where it is no number, or what systemd prints for infinity and for no value."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if value >= 2**63 or value != value else int(value) if value.is_integer() else value


def day_files(folder: Path) -> list[Path]:
    """The recorder's own files, oldest first; whatever else is in the folder is ignored, also under such a name."""
    days = [path for path in folder.iterdir() if _DAY.fullmatch(path.name)]
    return sorted(path for path in days if not irregular(path.lstat(), folder.stat().st_uid))


def append_record(folder: Path, record: Record, now: datetime, keep_days: float, keep_mb: float) -> None:
    """Append a record to its day's file, and delete files older than `keep_days` or beyond `keep_mb` in total.

    On a full disk the oldest files are deleted first. Raises OSError when that is not enough.
    """
    line = (json.dumps(record, separators=(",", ":")) + "\n").encode()
    today = folder / f"{now:%Y-%m-%d}.jsonl"
    oldest = f"{now - timedelta(days=keep_days):%Y-%m-%d}.jsonl"
    for path in day_files(folder):
        if path.name < oldest:
            path.unlink()
    while (files := day_files(folder)) and sum(path.lstat().st_size for path in files) + len(line) > keep_mb * 2**20:
        files[0].unlink()
    while True:
        try:
            return _append(today, line)
        except OSError as error:
            older = [path for path in day_files(folder) if path != today]
            if not older or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            older[0].unlink()


def _append(path: Path, line: bytes) -> None:
    """Append a line whole or not at all, and have it on the disk. Raises OSError."""
    fd = open_regular(str(path), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        size = os.fstat(fd).st_size
        # Ends a line that a power cut left half written, so that only that one is lost.
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)


def open_regular(path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a regular file, and nothing else that may stand in its place; returns its descriptor.

    Root that shows the records would else follow a link to any file, and wait for the writer of a FIFO. What is there
    is looked at before it is opened (O_PATH), and what was looked at is opened. In another user's directory a file has
    to be that user's, root's or ours, under one name only.

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


def read_records(folder: Path) -> Iterator[Record | None]:
    """The recorded lines, oldest first; None for one that cannot be read."""
    for path in day_files(folder):
        with os.fdopen(open_regular(str(path)), "rb") as file:
            lines = file.read().splitlines()
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if line:
                yield record if isinstance(record, dict) else None


def main(argv: Sequence[str] | None = None) -> int:
    """Record or show. Exit status 1 when that was not possible."""
    parser = argparse.ArgumentParser(description="Record how this host and its engine are.")
    parser.add_argument("--keep", action="store_true", help="append the record to the folder; else it is only printed")
    parser.add_argument("--show", type=int, metavar="N", help="print the last N records, one a line, and end")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the records are (default: %(default)s)")
    parser.add_argument("--days", type=float, default=14, help="how many days to keep (default: %(default)s)")
    parser.add_argument("--mb", type=float, default=16, help="how many MB to keep at most (default: %(default)s)")
    args, now = parser.parse_args(argv), datetime.now(UTC)
    try:
        if args.show is not None:
            return show(args.folder, args.show)
        record = Snapshot().record(now)
        if not args.keep:
            print(json.dumps(record, indent=1))
            return 0
        append_record(args.folder, record, now, args.days, args.mb)
    except OSError as error:
        print(f"hybrid-health-snapshot: {error.filename or args.folder}: {error.strerror or error}", file=sys.stderr)
        return 1
    if record["health"]["healthy"] is not True:  # in the journal as well
        print(f"not healthy: {json.dumps(record['health'])}")
    return 0


def show(folder: Path, count: int) -> int:
    """Print the last records as JSON lines, and on stderr how many could not be read."""
    recorded = list(read_records(folder))
    for path in sorted(folder.iterdir()):
        if _DAY.fullmatch(path.name) and (wrong := irregular(path.lstat(), folder.stat().st_uid)):
            print(f"hybrid-health-snapshot: {path} {wrong}, left out", file=sys.stderr)
    for record in [record for record in recorded if record is not None][-count:] if count > 0 else []:
        print(json.dumps(record, separators=(",", ":")))
    if torn := recorded.count(None):
        print(f"hybrid-health-snapshot: {torn} torn, left out", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
