"""CPU time and memory of a process, from /proc."""

import os
from pathlib import Path


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system. Raises OSError for a process that has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, name: str = "VmRSS") -> float:
    """VmRSS or VmHWM, in MB (10^6 bytes). Not ru_maxrss, which includes the fork. Raises OSError as above."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))
    return kib * 1024 / 1e6


def written_bytes(pid: int) -> int:
    """Bytes that it made the system write to a disk; 0 on a file system in memory. Raises OSError as above."""
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(counters["write_bytes"])


def slope(points: list[tuple[float, float]]) -> float:
    """The slope of the least-squares line through (x, y) points; 0 for fewer than two points."""
    if len(points) < 2:
        return 0.0
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread if spread else 0.0
