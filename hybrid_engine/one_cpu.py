"""Threads that take turns run best on one CPU.

Only one thread of an interpreter works at a time. On one CPU a hand-over is a switch, between caches that are warm; on
several the next thread is woken on another CPU by an interrupt, and fetches what the last one left in its cache.
Measured in a flood (docs/bench.md): 6.6 us a frame on two CPUs, 4.7 on one. In the hardened unit the call is refused;
there CPUAffinity= does the same, for an operator who names a CPU (engine_cpus).
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Thread

FOLLOW_S = 1.0  # how often, at most, the threads are brought to another CPU
_PROCESSOR = 36  # its place in /proc/PID/stat behind the command's name, proc(5)


def current_cpu() -> int:
    """The CPU that the calling thread runs on. Raises OSError without /proc."""
    stat = Path("/proc/thread-self/stat").read_text()
    return int(stat.rpartition(")")[2].split()[_PROCESSOR])


class OneCpu:
    """Keeps threads on the CPU of whoever calls `gather`, which goes where the scheduler finds room for it."""

    def __init__(self, threads: Iterable[Thread]) -> None:
        self._threads = tuple(threads)
        self._cpu: int | None = None
        self._look_at = 0.0

    def gather(self) -> None:
        """Bring the threads to the CPU of the caller, where that is another than the last time. Never raises."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + FOLLOW_S
        try:
            cpu = current_cpu()
            if cpu != self._cpu:
                for thread in self._threads:
                    if thread.native_id is not None and thread.is_alive():
                        os.sched_setaffinity(thread.native_id, {cpu})
                self._cpu = cpu
        except ProcessLookupError:
            pass  # one of them has just ended
        except OSError:
            self._look_at = float("inf")  # not allowed: they run where they like
