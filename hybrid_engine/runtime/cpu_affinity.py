"""Threads that take turns run best on one CPU.

Only one thread of an interpreter works at a time. On one CPU a hand-over is a switch, between caches that are warm; on
several the next thread is woken on another CPU by an interrupt, and fetches what the last one left in its cache.
Measured in a flood (docs/bench.md): 6.6 us a frame on two CPUs, 4.7 on one. In the hardened unit the call is refused;
there CPUAffinity= does the same, for an operator who names a CPU (engine_cpus).

And they finish their turns: as batch (sched(7)) a thread that is woken does not cut short the one that woke it, only to
wait for the interpreter's lock that it holds. That takes 2 to 5 % of the CPU off, and decisions above 2 ms by a third.

The scheduler moves others out of the way. Where it cannot, the threads move; not after the idle moments of a CPU, which
change with every look: a move costs the caches, and for a while two heavy users stand on one CPU (p99 of decisions at
105,000 a second 2.0 ms instead of 1.4, when the threads went each second to where the main thread had been woken).
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Thread

LOOK_S = 1.0  # how often, at most, the CPUs are compared
MORE_ROOM = 0.25  # of a CPU, which another has to offer
_PROCESSOR = 36  # its place in /proc/PID/stat behind the command's name, proc(5)
_IDLE = (3, 4)  # idle and iowait in a line of /proc/stat, proc(5)
_GUEST = 8  # from here on a line counts again what it has counted
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def current_cpu() -> int:
    """The CPU that the calling thread runs on. Raises OSError without /proc."""
    stat = Path("/proc/thread-self/stat").read_text()
    return int(stat.rpartition(")")[2].split()[_PROCESSOR])


def busy_s() -> dict[int, float]:
    """Seconds for which each CPU had something to do, or was taken by the host, since it began. Raises OSError."""
    busy = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            spent = sum(int(tick) for place, tick in enumerate(ticks[:_GUEST]) if place not in _IDLE)
            busy[int(name[3:])] = spent / _TICKS_A_SECOND
    return busy


class CpuAffinity:
    """Keeps threads on one CPU: where `gather` was called first, until others leave clearly more room elsewhere.

    As batch, where nobody gave them another policy.
    """

    def __init__(self, threads: Iterable[Thread]) -> None:
        self._threads = tuple(threads)
        self._cpu: int | None = None
        self._looked_at = float("-inf")
        self._busy: dict[int, float] = {}
        self._own_s = 0.0
        self._refused = False

    def gather(self) -> None:
        """Bring the threads to the CPU that has room for them, where they are not there. Never raises."""
        now = time.monotonic()
        if self._refused or now - self._looked_at < LOOK_S:
            return
        try:
            cpu = self._roomiest(now - self._looked_at)
            self._looked_at = now
            if cpu != self._cpu:
                for thread in self._threads:
                    if thread.native_id is not None and thread.is_alive():
                        os.sched_setaffinity(thread.native_id, {cpu})
                        if os.sched_getscheduler(thread.native_id) == os.SCHED_OTHER:
                            os.sched_setscheduler(thread.native_id, os.SCHED_BATCH, os.sched_param(0))
                self._cpu = cpu
        except ProcessLookupError:
            pass  # one of them has just ended
        except OSError:
            self._refused = True  # they run where they like

    def _roomiest(self, since_s: float) -> int:
        """The CPU to be on, by what others used of each in the last `since_s`."""
        before, self._busy = self._busy, busy_s()
        own_s, self._own_s = time.process_time() - self._own_s, time.process_time()
        if self._cpu is None:
            return current_cpu()
        # What was used where the threads are was used by them first of all.
        used = {
            cpu: self._busy[cpu] - before[cpu] - (own_s if cpu == self._cpu else 0.0)
            for cpu in os.sched_getaffinity(0)
            if cpu in self._busy and cpu in before
        }
        here = used.get(self._cpu, float("inf"))  # no longer there, or not allowed any more
        best = min(used, key=used.__getitem__, default=self._cpu)
        return best if used.get(best, here) + MORE_ROOM * since_s < here else self._cpu
