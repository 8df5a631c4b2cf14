"""The stages of a street stand on the CPU of whoever gathers them, and follow it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_engine import one_cpu
from hybrid_engine.one_cpu import OneCpu, current_cpu

CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.Thread]]:
    """Threads that wait, on any CPU; whoever gathers them may afterwards go where it could go before."""
    monkeypatch.setattr(one_cpu, "FOLLOW_S", 0.0)
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
        found.append(current_cpu())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [cpu]


def test_they_follow_the_caller_and_the_caller_stays_free(workers: list[threading.Thread]) -> None:
    together = OneCpu(workers)
    for cpu in [*CPUS, *reversed(CPUS)]:
        os.sched_setaffinity(0, {cpu})
        together.gather()
        assert places(workers) == [{cpu}] * 3
    os.sched_setaffinity(0, CPUS)
    together.gather()
    assert len(os.sched_getaffinity(0)) == len(CPUS)


def test_they_follow_only_now_and_then(workers: list[threading.Thread], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_cpu, "FOLLOW_S", 60.0)
    together = OneCpu(workers)
    os.sched_setaffinity(0, {CPUS[0]})
    together.gather()
    os.sched_setaffinity(0, {CPUS[-1]})
    together.gather()
    assert places(workers) == [{CPUS[0]}] * 3


def test_one_that_has_ended_is_left_out(workers: list[threading.Thread]) -> None:
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    os.sched_setaffinity(0, {CPUS[0]})
    OneCpu([ended, *workers]).gather()
    assert places(workers) == [{CPUS[0]}] * 3


def test_where_it_is_not_allowed_they_run_where_they_like(
    workers: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refused(number: int, cpus: set[int]) -> None:
        asked.append(number)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refused)
    together = OneCpu(workers)
    together.gather()
    together.gather()
    monkeypatch.undo()
    assert asked == [workers[0].native_id]
    assert places(workers) == [set(CPUS)] * 3
