"""The stages run on one CPU, and move only when another one is clearly less busy."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hybrid_engine.runtime import cpu_affinity
from hybrid_engine.runtime.cpu_affinity import CpuAffinity, read_busy_s, read_current_cpu

CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture
def workers() -> Iterator[list[threading.Thread]]:
    """Threads that wait, on any CPU. The affinity of the calling thread is restored."""
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    yield threads
    os.sched_setaffinity(0, CPUS)
    over.set()
    for thread in threads:
        thread.join()


def places(threads: list[threading.Thread]) -> list[set[int]]:
    return [os.sched_getaffinity(thread.native_id or 0) for thread in threads]


@pytest.mark.parametrize("cpu", CPUS)
def test_read_current_cpu_of_caller(cpu: int) -> None:
    result: list[int] = []

    def ask() -> None:
        os.sched_setaffinity(0, {cpu})
        Path("/proc/thread-self/comm").write_text("a) name 1 2")
        result.append(read_current_cpu())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert result == [cpu]


class Machine:
    """Two simulated CPUs, and how much of their time the engine used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, together: CpuAffinity) -> None:
        self.now, self.own_s, self.busy_s, self.together = 1000.0, 5.0, {0: 100.0, 1: 200.0}, together
        self.at: list[int] = []
        self.allowed = {0, 1}
        clock = SimpleNamespace(monotonic=lambda: self.now, process_time=lambda: self.own_s)
        monkeypatch.setattr(cpu_affinity, "time", clock)
        monkeypatch.setattr(cpu_affinity, "read_busy_s", lambda: dict(self.busy_s))
        monkeypatch.setattr(cpu_affinity, "read_current_cpu", lambda: 0)
        monkeypatch.setattr(os, "sched_setaffinity", lambda _, cpus: self.at.extend(cpus))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: self.allowed)
        together.pin_threads()

    def later(self, first: float, second: float, own: float, seconds: float = 1.0) -> list[int]:
        """The CPUs that the threads were moved to, after `seconds` with CPU 0 and 1 busy for these shares of the time.

        `own` is the engine's part of it.
        """
        self.at.clear()
        self.now += seconds
        self.own_s += own * seconds
        self.busy_s = {0: self.busy_s[0] + first * seconds, 1: self.busy_s.get(1, 0.0) + second * seconds}
        self.together.pin_threads()
        return self.at


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield Machine(monkeypatch, CpuAffinity([thread]))
    over.set()
    thread.join()


def test_threads_start_on_callers_cpu(workers: list[threading.Thread]) -> None:
    for cpu in CPUS:
        os.sched_setaffinity(0, {cpu})
        CpuAffinity(workers).pin_threads()
        assert places(workers) == [{cpu}] * 3
    os.sched_setaffinity(0, CPUS)
    CpuAffinity(workers).pin_threads()
    assert len(os.sched_getaffinity(0)) == len(CPUS)


def test_own_cpu_use_does_not_move_threads(machine: Machine) -> None:
    assert machine.at == [0]
    for own in (0.1, 0.9, 1.0):
        assert machine.later(own, 0.0, own) == []
    assert machine.later(1.0, 0.65, 0.9) == []  # a busy process on the other CPU
    assert machine.later(1.0, 0.0, 0.8) == []  # a little use by another process


@pytest.mark.parametrize("seconds", [1.0, 7.0])
def test_threads_move_to_clearly_idler_cpu(machine: Machine, seconds: float) -> None:
    assert machine.later(1.0, 0.3, 0.5, seconds) == []
    assert machine.later(1.0, 0.2, 0.5, seconds) == [1]
    assert machine.later(0.5, 0.8, 0.8, seconds) == []
    assert machine.later(0.1, 1.0, 0.6, seconds) == [0]


def test_disallowed_cpu_is_left(machine: Machine) -> None:
    machine.allowed = {1}
    assert machine.later(1.0, 0.9, 1.0) == [1]


def test_new_cpu_is_compared_later(machine: Machine) -> None:
    del machine.busy_s[1]
    machine.now += 1.0
    machine.together.pin_threads()
    assert machine.later(1.0, 0.0, 0.2) == []
    assert machine.later(1.0, 0.0, 0.2) == [1]


def test_cpus_compared_at_most_every_second(machine: Machine) -> None:
    assert machine.later(1.0, 0.0, 0.1, cpu_affinity.COMPARE_EVERY_S * 0.9) == []
    assert machine.later(1.0, 0.0, 0.1, cpu_affinity.COMPARE_EVERY_S * 0.2) == [1]


def test_read_busy_s_of_proc_stat(monkeypatch: pytest.MonkeyPatch) -> None:
    events = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 20 30 4000 500 6 7 8 900 1000\ncpu12 1 0 0 0 0 0 0 0 0 0\nintr 5\n"
    monkeypatch.setattr(Path, "read_text", lambda path: events)
    ticks = os.sysconf("SC_CLK_TCK")
    assert read_busy_s() == {0: 171 / ticks, 12: 1 / ticks}


def test_threads_get_batch_policy_unless_set(workers: list[threading.Thread]) -> None:
    os.sched_setscheduler(workers[1].native_id or 0, os.SCHED_IDLE, os.sched_param(0))
    CpuAffinity(workers, workers[2]).pin_threads()
    policies = [os.sched_getscheduler(thread.native_id or 0) for thread in workers]
    assert policies == [os.SCHED_BATCH, os.SCHED_IDLE, os.SCHED_OTHER], "the reader keeps its own"
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_ended_thread_is_skipped(workers: list[threading.Thread]) -> None:
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    os.sched_setaffinity(0, {CPUS[0]})
    CpuAffinity([ended, *workers]).pin_threads()
    assert places(workers) == [{CPUS[0]}] * 3


def test_refused_affinity_is_no_error(workers: list[threading.Thread], monkeypatch: pytest.MonkeyPatch) -> None:
    moved_threads = []

    def refused(number: int, cpus: set[int]) -> None:
        moved_threads.append(number)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refused)
    monkeypatch.setattr(cpu_affinity, "COMPARE_EVERY_S", 0.0)
    together = CpuAffinity(workers)
    together.pin_threads()
    together.pin_threads()
    monkeypatch.undo()
    assert moved_threads == [workers[0].native_id]
    assert places(workers) == [set(CPUS)] * 3
