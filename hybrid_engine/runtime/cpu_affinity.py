"""Keeps the engine's threads on one CPU, because only one of them can run at a time.

The interpreter's lock lets one thread work at a time. On one CPU a change of threads finds warm caches; on several CPUs
the next thread is woken by an interrupt on another CPU and has to fetch the data from the first one's cache. In the
hardened unit the system call is refused; there an operator sets CPUAffinity= (engine_cpus) for the same effect.

They also get the scheduling policy SCHED_BATCH (sched(7)): a woken thread then does not preempt the one that woke it,
which still holds the interpreter's lock. The reader keeps its policy: it is woken by the network, and beside a busy
program it would wait until that one's time is over. docs/bench.md has the figures of all three.

The kernel's scheduler moves other processes away. Where it cannot, the threads move, but not at every momentary
difference: a move costs the caches, and for a while two busy programs share a CPU.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Thread

COMPARE_EVERY_S = 1.0  # how often, at most, the CPUs are compared
MIN_ADVANTAGE = 0.25  # of a CPU's time: so much more must be free on another CPU before the threads move
_PROCESSOR = 36  # index of the field `processor` in /proc/PID/stat, counted from the one behind the command, proc(5)
_IDLE = (3, 4)  # indexes of idle and iowait in a line of /proc/stat, proc(5)
_GUEST = 8  # from this index on, a line repeats time that its earlier fields include
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def read_current_cpu() -> int:
    """The CPU that the calling thread runs on. Raises OSError without /proc."""
    stat = Path("/proc/thread-self/stat").read_text()
    return int(stat.rpartition(")")[2].split()[_PROCESSOR])


def read_busy_s() -> dict[int, float]:
    """Seconds since boot for which each CPU was busy, or taken by the host of a virtual machine. Raises OSError."""
    busy = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            spent = sum(int(tick) for place, tick in enumerate(ticks[:_GUEST]) if place not in _IDLE)
            busy[int(name[3:])] = spent / _TICKS_A_SECOND
    return busy


class CpuAffinity:
    """Keeps threads on one CPU: the one of the first `pin_threads` call, until another one is clearly less busy.

    `reader`: the one of them that reads from the network.
    """

    def __init__(self, threads: Iterable[Thread], reader: Thread | None = None) -> None:
        self._threads = tuple(threads)
        self._reader = reader
        self._cpu: int | None = None
        self._compared_at = float("-inf")
        self._busy: dict[int, float] = {}
        self._own_s = 0.0
        self._refused = False

    def pin_threads(self) -> None:
        """Move the threads to the best CPU, at most every COMPARE_EVERY_S. Never raises."""
        now = time.monotonic()
        if self._refused or now - self._compared_at < COMPARE_EVERY_S:
            return
        try:
            cpu = self._choose_cpu(now - self._compared_at)
            self._compared_at = now
            if cpu != self._cpu:
                for thread in self._threads:
                    if thread.native_id is not None and thread.is_alive():
                        os.sched_setaffinity(thread.native_id, {cpu})
                        policy = os.sched_getscheduler(thread.native_id)
                        if thread is not self._reader and policy == os.SCHED_OTHER:
                            os.sched_setscheduler(thread.native_id, os.SCHED_BATCH, os.sched_param(0))
                self._cpu = cpu
        except OSError as error:  # refused: the threads run where the scheduler puts them
            self._refused = not isinstance(error, ProcessLookupError)  # a thread that has just ended

    def _choose_cpu(self, since_s: float) -> int:
        """The CPU to run on, by what other processes used of each one in the last `since_s` seconds."""
        before, self._busy = self._busy, read_busy_s()
        own_s, self._own_s = time.process_time() - self._own_s, time.process_time()
        if self._cpu is None:
            return read_current_cpu()
        # Other processes' use: on the threads' own CPU, what the engine used itself is subtracted.
        used = {
            cpu: self._busy[cpu] - before[cpu] - (own_s if cpu == self._cpu else 0.0)
            for cpu in os.sched_getaffinity(0)
            if cpu in self._busy and cpu in before
        }
        here = used.get(self._cpu, float("inf"))  # inf: the CPU is offline now, or no longer allowed
        best = min(used, key=used.__getitem__, default=self._cpu)
        return best if used.get(best, here) + MIN_ADVANTAGE * since_s < here else self._cpu
