"""Which processes and disks a host is busy with: /proc read twice by a shell, some seconds apart, and compared here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SECONDS = 10
# What pidstat says of the same time stands between the two looks, where there is a pidstat.
SHELL = f"""\
look() {{
    echo @up; cat /proc/uptime; echo @cpu; grep '^cpu ' /proc/stat; echo @disks; cat /proc/diskstats
    echo @tasks; cat /proc/[0-9]*/stat 2>/dev/null
}}
echo @ticks; getconf CLK_TCK; look
echo @pidstat; if command -v pidstat >/dev/null; then pidstat -u 1 {SECONDS} 2>&1; else sleep {SECONDS}; fi
look; echo @end"""
_TASK = re.compile(r"(\d+) \((.*)\) (\S) (.*)")
_STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_MOST = 15


@dataclass(frozen=True)
class Task:
    """A process; times in clock ticks."""

    name: str
    state: str
    user: int
    system: int
    began: int


@dataclass(frozen=True)
class Activity:
    """How a host spent the time between two looks, as lines for people. pidstat: its output, "" where there is none."""

    tasks: list[str]
    cpu: str
    disks: list[str]
    pidstat: str


def compare(output: str) -> Activity | None:
    """Out of the output of SHELL; None where it did not come to its end, or there is no such /proc."""
    parts: dict[str, list[str]] = {}
    for chunk in re.split(r"^@", output, flags=re.M)[1:]:
        name, _, text = chunk.partition("\n")
        parts.setdefault(name, []).append(text)
    try:
        ticks = int(parts["ticks"][0])
        seconds = float(parts["up"][1].split()[0]) - float(parts["up"][0].split()[0])
        if "end" not in parts or seconds <= 0:
            return None
        before, after = (_tasks(text) for text in parts["tasks"])
        old, new = ([int(word) for word in text.split()[1:9]] for text in parts["cpu"])
        disks = _disks(parts["disks"][0], parts["disks"][1], seconds)
    except (KeyError, IndexError, ValueError):
        return None
    return Activity(_top(before, after, ticks, seconds), _shares(old, new), disks, parts["pidstat"][0].strip())


def _tasks(text: str) -> dict[str, Task]:
    tasks = {}
    for line in text.splitlines():
        if match := _TASK.fullmatch(line):
            rest = match[4].split()
            tasks[match[1]] = Task(match[2], match[3], int(rest[10]), int(rest[11]), int(rest[18]))
    return tasks


def _top(before: Mapping[str, Task], after: Mapping[str, Task], ticks: int, seconds: float) -> list[str]:
    used: list[tuple[float, float, str, Task]] = []
    for pid, task in after.items():
        then = before.get(pid)
        # A number may be given to another process meanwhile: what began later, used all that it has used since.
        was = (then.user, then.system) if then and then.began == task.began else (0, 0)
        user, system = (100 * ticked / ticks / seconds for ticked in (task.user - was[0], task.system - was[1]))
        if user + system > 0:
            used.append((user, system, pid, task))
    used.sort(key=lambda row: row[0] + row[1], reverse=True)
    lines = [f"{'PID':>8} {'%usr':>7} {'%system':>8} {'%CPU':>7} state command"]
    for user, system, pid, task in used[:_MOST]:
        lines.append(f"{pid:>8} {user:7.2f} {system:8.2f} {user + system:7.2f} {task.state:5} {task.name}")
    return [*lines, f"{len(after)} processes, {len(used)} of them used CPU; 100 % is one core"]


def _shares(old: list[int], new: list[int]) -> str:
    spent = [now - then for then, now in zip(old, new, strict=True)]
    total = sum(spent) or 1
    return "  ".join(f"{name} {100 * part / total:.2f} %" for name, part in zip(_STATES, spent, strict=False))


def _disks(old: str, new: str, seconds: float) -> list[str]:
    """Devices that did anything."""
    lines = [f"{'device':14} {'r/s':>8} {'rkB/s':>10} {'w/s':>8} {'wkB/s':>10} {'%util':>6}"]
    then = {words[2]: [int(word) for word in words[3:14]] for words in map(str.split, old.splitlines())}
    for words in map(str.split, new.splitlines()):
        now = [int(word) for word in words[3:14]]
        did = [b - a for a, b in zip(then.get(words[2], now), now, strict=True)]
        if any(did):
            reads, read_kb, writes, wrote_kb = did[0], did[2] / 2, did[4], did[6] / 2  # sectors of 512 bytes
            rates = [value / seconds for value in (reads, read_kb, writes, wrote_kb)]
            busy = min(100.0, did[9] / seconds / 10)
            lines.append(f"{words[2]:14} {rates[0]:8.2f} {rates[1]:10.2f} {rates[2]:8.2f} {rates[3]:10.2f} {busy:6.2f}")
    return lines if len(lines) > 1 else ["no device read or wrote anything"]
