#!/usr/bin/python3
"""The flight recorder: how host and engine are, as one compact JSON record, kept as a line a look.

A file by itself, of the standard library alone: it is installed on hosts as hybrid-health-snapshot, and records there
also when no release works. It asks as an operator does; what cannot be read is named in `missing` and fails nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
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
SECONDS = 20.0  # no command may take longer
LONGEST = 200  # characters of any text in a record
KINDS = ("cpu", "memory", "io")
SHOWN = (
    "ActiveState", "SubState", "Result", "MainPID", "NRestarts", "ExecMainStatus", "ExecMainStartTimestamp",
    "InvocationID", "ControlGroup", "MemoryCurrent", "CPUUsageNSec",
)  # fmt: skip
_DAY = re.compile(r"\d{4}-\d\d-\d\d\.jsonl")
_PSI = re.compile(r"(some|full) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)")
Record = dict[str, Any]


class Look:
    """One look at the host. `missing`: what could not be read, and why."""

    def __init__(self, proc: Path = Path("/proc"), health: Sequence[str] = HEALTH) -> None:
        self.proc = proc
        self.health = health
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

    def _lack(self, what: str, why: object) -> None:
        self.missing.append(f"{what}: {str(why)[:LONGEST]}")

    def _text(self, what: str, path: Path) -> str:
        try:
            return path.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            self._lack(what, error.strerror or error)
            return ""

    def _numbers(self, name: str, count: int) -> list[float | None]:
        words = self._text(name, self.proc / name).split()[:count]
        return [_number(word) for word in words] or [None] * count

    def _run(self, what: str, argv: Sequence[str]) -> str:
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS, errors="replace")
        except (OSError, subprocess.TimeoutExpired) as error:
            self._lack(what, error)
            return ""
        if not done.stdout.strip():
            self._lack(what, f"exit {done.returncode}: {done.stderr.strip()[-LONGEST:]}")
        return done.stdout

    def _unit(self) -> Record:
        """What systemd knows of the unit; figures as figures."""
        said = self._run("engine", ["systemctl", "show", f"--property={','.join(SHOWN)}", "--", UNIT])
        pairs = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        kept: Record = {name: pairs[name][:LONGEST] for name in SHOWN if pairs.get(name)}
        for name in ("MainPID", "NRestarts", "ExecMainStatus", "CPUUsageNSec"):
            if name in kept:
                kept[name] = _number(kept[name])
        return kept

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
            self._lack(f"psi of {whose}", "it has no cgroup now")
            return None
        found = {}
        for kind in KINDS:
            said = _PSI.findall(self._text(f"psi of {whose}, {kind}", folder / name.format(kind)))
            if said:
                found[kind] = {word: [float(a), float(b), float(c), int(total)] for word, a, b, c, total in said}
        return found or None

    def _memory(self, of_unit: str) -> Record:
        """In MB; `unit` is the engine's cgroup, page cache included."""
        said = dict(re.findall(r"^(\w+):\s+(\d+) kB$", self._text("memory", self.proc / "meminfo"), re.M))
        names = {"total": "MemTotal", "available": "MemAvailable", "swap_total": "SwapTotal", "swap_free": "SwapFree"}
        found = {name: int(said[key]) // 1024 if key in said else None for name, key in names.items()}
        current = _number(of_unit)
        if current is None:
            self._lack("memory of unit", of_unit or "unknown")
        return {**found, "unit": None if current is None else round(current / 2**20, 1)}

    def _disk(self) -> Record:
        """By directory: MB and inodes; `database` is what the engine's files take."""
        found: Record = {}
        for place in ("/", STATE):
            try:
                at = os.statvfs(place)
            except OSError as error:
                self._lack(f"disk at {place}", error.strerror or error)
                continue
            total, free = (blocks * at.f_frsize >> 20 for blocks in (at.f_blocks, at.f_bavail))
            found[place] = {"total": total, "free": free, "inodes_free": at.f_favail}
        try:
            sizes = [entry.stat().st_size for entry in os.scandir(STATE) if entry.is_file(follow_symlinks=False)]
            found["database"] = round(sum(sizes) / 2**20, 1)
        except OSError as error:
            self._lack("database", error.strerror or error)
        return found

    def _release(self) -> str | None:
        try:
            return Path(os.readlink(LIVE)).name
        except OSError as error:
            self._lack("release", error.strerror or error)
            return None

    def _health(self) -> tuple[Record, Record | None]:
        """The engine's own verdict, with what failed; and its newest run's counters."""
        try:
            said = json.loads(self._run("health", self.health) or "null")
            failed = {str(c["name"])[:40]: str(c["detail"])[:LONGEST] for c in said["checks"] if not c["ok"]}
            run = said.get("run")
            kept = {k: v[:12] if isinstance(v, str) else v for k, v in run.items()} if run else None
            return {"healthy": said["healthy"] is True, "failed": dict([*failed.items()][:20])}, kept
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if not any(entry.startswith("health") for entry in self.missing):
                self._lack("health", f"no answer that can be read ({type(error).__name__})")
            return {"healthy": None, "failed": {}}, None


def _number(text: str) -> float | int | None:
    """The number that a text is; None where it is none, or what systemd says for infinity and for nothing."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if value >= 2**63 or value != value else int(value) if value.is_integer() else value


def days(folder: Path) -> list[Path]:
    """The recorder's own files, the oldest first; whatever else lies there is not its business."""
    return sorted(path for path in folder.iterdir() if _DAY.fullmatch(path.name))


def keep(folder: Path, record: Record, now: datetime, keep_days: float, keep_mb: float) -> None:
    """Append a record to its day's file, then no file is older than `keep_days`, and all together are within `keep_mb`.

    Where the disk is full, its own oldest files make room. Raises OSError when that was not enough.
    """
    line = (json.dumps(record, separators=(",", ":")) + "\n").encode()
    today = folder / f"{now:%Y-%m-%d}.jsonl"
    oldest = f"{now - timedelta(days=keep_days):%Y-%m-%d}.jsonl"
    for path in days(folder):
        if path.name < oldest:
            path.unlink()
    while (there := days(folder)) and sum(path.stat().st_size for path in there) + len(line) > keep_mb * 2**20:
        there[0].unlink()
    while True:
        try:
            return _append(today, line)
        except OSError:
            older = [path for path in days(folder) if path != today]
            if not older:
                raise
            older[0].unlink()


def _append(path: Path, line: bytes) -> None:
    """All of it or nothing, on the disk when this returns. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        size = os.fstat(fd).st_size
        # What a power cut left of a line ends here, so that only that one is lost.
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


def records(folder: Path) -> Iterator[Record | None]:
    """What was kept, the oldest first; None for a line that is torn."""
    for path in days(folder):
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if line:
                yield record if isinstance(record, dict) else None


def main(argv: Sequence[str] | None = None) -> int:
    args = options(argparse.ArgumentParser(description="Record how this host and its engine are.")).parse_args(argv)
    return run(args)


def options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--keep", action="store_true", help="keep the record; without it, it is printed alone")
    parser.add_argument("--show", type=int, metavar="N", help="print the last N that were kept, one a line, and end")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where they are kept (default: %(default)s)")
    parser.add_argument("--days", type=float, default=14, help="for how many days (default: %(default)s)")
    parser.add_argument("--mb", type=float, default=16, help="and how many MB at most (default: %(default)s)")
    return parser


def run(args: argparse.Namespace) -> int:
    """0; 1 when it could not be read or kept."""
    now = datetime.now(UTC)
    try:
        if args.show is not None:
            return show(args.folder, args.show)
        record = Look().record(now)
        if not args.keep:
            print(json.dumps(record, indent=1))
            return 0
        keep(args.folder, record, now, args.days, args.mb)
    except OSError as error:
        print(f"hybrid-health-snapshot: {args.folder}: {error.strerror or error}", file=sys.stderr)
        return 1
    if record["health"]["healthy"] is not True:  # in the journal as well, beside what the engine said
        print(f"not healthy: {json.dumps(record['health'])}")
    return 0


def show(folder: Path, count: int) -> int:
    """The last ones as JSON lines, with a word about those that are torn."""
    found = list(records(folder))
    for record in [record for record in found if record is not None][-count:] if count > 0 else []:
        print(json.dumps(record, separators=(",", ":")))
    if torn := found.count(None):
        print(f"hybrid-health-snapshot: {torn} torn, left out", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
