"""What /proc shows of a process's network namespace and of its children, and what changed from one look to the next."""

import re
from collections.abc import Sequence
from pathlib import Path

from proofs.host.shell import Host

_COUNTERS = ("dev", "snmp", "snmp6", "netstat")
_TABLES = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "icmp", "icmp6", "packet", "unix")


def look(host: Host, pid: int) -> str:
    """The namespace's counters and sockets, and the process's children. A file that is not there is left out."""
    files = [f"/proc/{pid}/net/{name}" for name in (*_COUNTERS, *_TABLES)]
    children = map(str, Path(f"/proc/{pid}/task").glob("*/children"))
    return host.look("grep", "-H", "", f"/proc/{pid}/stat", *files, *children).stdout


def growth(first: str, last: str) -> dict[str, int]:
    """Which counters differ between two looks, and by how much."""
    before, after = _counters(first), _counters(last)
    if not before or not after:
        return {"looks without a counter": (not before) + (not after)}
    return {name: number - before.get(name, 0) for name, number in after.items() if number != before.get(name, 0)}


def sockets(text: str) -> list[str]:
    """What is in the tables of sockets, but their headings."""
    lines = _lines(text, _TABLES)
    heads = dict(reversed(lines))
    return [f"{name}: {line.strip()[:80]}" for name, line in lines if line != heads[name]]


def children(first: str, last: str) -> int:
    """Children that the process has, and page faults of those that it waited for between two looks."""
    running = re.findall(r"\d+", " ".join(re.findall(r"^\S+/children:(.*)", last, re.M)))
    # Not from zero: what sets up a sandbox has children before it becomes the unit's program.
    return len(running) + _faults_of_children(last) - _faults_of_children(first)


def _faults_of_children(text: str) -> int:
    match = re.search(r"^/proc/\d+/stat:.*\) \S+(?: \S+){7} (\d+) ", text, re.M)
    return int(match[1]) if match else 0


def _lines(text: str, files: Sequence[str]) -> list[tuple[str, str]]:
    """The file's name and the text of each line of these files of the network."""
    return [(name, line) for name, line in re.findall(r"^/proc/\d+/net/(\w+):(.*)$", text, re.M) if name in files]


def _counters(text: str) -> dict[str, int]:
    """By the name of the line, and that of the column where a line above names it."""
    counters: dict[str, int] = {}
    heads: dict[str, list[str]] = {}
    for _, line in _lines(text, _COUNTERS):
        name, *words = line.replace(":", " ").split() or [""]
        numbers = {column: int(word) for column, word in enumerate(words) if word.isdigit()}
        heads.update({} if numbers else {name: words})
        for column, number in numbers.items():
            counters[f"{name} {heads[name][column] if name in heads else column}"] = number
    return counters
