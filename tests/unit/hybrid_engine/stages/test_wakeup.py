"""A wakeup: one thread waits, another one ends that."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from hybrid_engine.stages.wakeup import Wakeup


class LockWithVisitor:
    """A lock that lets `visitor` run, as another thread would, before it is taken again."""

    def __init__(self, visitor: Callable[[], None]) -> None:
        self.visitor = visitor
        self.taken = True

    def release(self) -> None:
        assert self.taken
        self.taken = False

    def acquire(self) -> None:
        self.visitor()
        self.taken = True


def test_notify_ends_wait_of_another_thread() -> None:
    lock = threading.Lock()
    wakeup = Wakeup(lock)
    steps: list[str] = []

    def wait() -> None:
        with lock:
            ready.set()
            wakeup.wait(60)
            steps.append("woken")

    for _ in range(3):
        ready = threading.Event()
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert ready.wait(5)
        with lock:  # it has released it, so it waits
            wakeup.notify()
            steps.append("notified")
        waiter.join(5)
    assert steps == ["notified", "woken"] * 3


@pytest.mark.parametrize("notified", [False, True])
def test_notification_after_timeout_does_not_end_next_wait(notified: bool) -> None:
    lock = LockWithVisitor(lambda: wakeup.notify() if notified else None)
    wakeup = Wakeup(lock)  # type: ignore[arg-type]
    wakeup.wait(0)
    assert lock.taken
    assert wakeup._signal.locked(), "the next wait would end at once"
    wakeup.notify()
    assert wakeup._signal.locked(), "nobody waits"
