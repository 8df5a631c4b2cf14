"""The stages of a street stand on one CPU, and leave it only where others leave clearly more room elsewhere."""

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
    """Threads that wait, on any CPU; whoever gathers them may afterwards go where it could go before."""
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
def test_the_cpu_of_the_caller(cpu: int) -> None:
    found: list[int] = []

    def ask() -> None:
        os.sched_setaffinity(0, {cpu})
        Path("/proc/thread-self/comm").write_text("a) name 1 2")
        found.append(read_current_cpu())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [cpu]


class Machine:
    """Two CPUs, what each did and what of it was ours, a second at a time."""

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
        """CPU 0 and 1 were busy for such shares of some seconds, of which we used `own`: where we were brought."""
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


def test_they_start_where_the_caller_is_and_it_stays_free(workers: list[threading.Thread]) -> None:
    for cpu in CPUS:
        os.sched_setaffinity(0, {cpu})
        CpuAffinity(workers).pin_threads()
        assert places(workers) == [{cpu}] * 3
    os.sched_setaffinity(0, CPUS)
    CpuAffinity(workers).pin_threads()
    assert len(os.sched_getaffinity(0)) == len(CPUS)


def test_what_they_use_themselves_drives_them_nowhere(machine: Machine) -> None:
    assert machine.at == [0]
    for own in (0.1, 0.9, 1.0):
        assert machine.later(own, 0.0, own) == []
    assert machine.later(1.0, 0.65, 0.9) == []  # a heavy neighbour on the other CPU
    assert machine.later(1.0, 0.0, 0.8) == []  # a little of somebody else


@pytest.mark.parametrize("seconds", [1.0, 7.0])
def test_they_leave_where_others_leave_clearly_more_room_elsewhere(machine: Machine, seconds: float) -> None:
    assert machine.later(1.0, 0.3, 0.5, seconds) == []
    assert machine.later(1.0, 0.2, 0.5, seconds) == [1]
    assert machine.later(0.5, 0.8, 0.8, seconds) == []
    assert machine.later(0.1, 1.0, 0.6, seconds) == [0]


def test_a_cpu_that_is_not_theirs_any_more_is_left(machine: Machine) -> None:
    machine.allowed = {1}
    assert machine.later(1.0, 0.9, 1.0) == [1]


def test_a_cpu_that_appears_is_looked_at_from_then_on(machine: Machine) -> None:
    del machine.busy_s[1]
    machine.now += 1.0
    machine.together.pin_threads()
    assert machine.later(1.0, 0.0, 0.2) == []
    assert machine.later(1.0, 0.0, 0.2) == [1]


def test_cpus_are_compared_only_now_and_then(machine: Machine) -> None:
    assert machine.later(1.0, 0.0, 0.1, cpu_affinity.COMPARE_EVERY_S * 0.9) == []
    assert machine.later(1.0, 0.0, 0.1, cpu_affinity.COMPARE_EVERY_S * 0.2) == [1]


def test_what_a_cpu_did_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 20 30 4000 500 6 7 8 900 1000\ncpu12 1 0 0 0 0 0 0 0 0 0\nintr 5\n"
    monkeypatch.setattr(Path, "read_text", lambda path: told)
    ticks = os.sysconf("SC_CLK_TCK")
    assert read_busy_s() == {0: 171 / ticks, 12: 1 / ticks}


def test_they_run_as_batch_and_another_policy_is_left_as_it_is(workers: list[threading.Thread]) -> None:
    os.sched_setscheduler(workers[1].native_id or 0, os.SCHED_IDLE, os.sched_param(0))
    CpuAffinity(workers).pin_threads()
    policies = [os.sched_getscheduler(thread.native_id or 0) for thread in workers]
    assert policies == [os.SCHED_BATCH, os.SCHED_IDLE, os.SCHED_BATCH]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_one_that_has_ended_is_left_out(workers: list[threading.Thread]) -> None:
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    os.sched_setaffinity(0, {CPUS[0]})
    CpuAffinity([ended, *workers]).pin_threads()
    assert places(workers) == [{CPUS[0]}] * 3


def test_where_it_is_not_allowed_they_run_where_they_like(
    workers: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refused(number: int, cpus: set[int]) -> None:
        asked.append(number)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refused)
    monkeypatch.setattr(cpu_affinity, "COMPARE_EVERY_S", 0.0)
    together = CpuAffinity(workers)
    together.pin_threads()
    together.pin_threads()
    monkeypatch.undo()
    assert asked == [workers[0].native_id]
    assert places(workers) == [set(CPUS)] * 3
