"""Wakes the one thread that waits for a condition: what a channel needs of threading.Condition, at less cost."""

import threading


class Wakeup:
    """For at most one waiting thread. Both methods are called with `lock` held, as those of a Condition are.

    `_signal` is free only between a `notify` and the end of the `wait` that it ends, and `_waiting` changes under
    `lock` alone. So a thread that timed out, and was notified before it had the lock again, takes that signal back:
    the next `wait` cannot end early.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._signal = threading.Lock()
        self._signal.acquire()
        self._waiting = False

    def wait(self, timeout_s: float) -> None:
        """Release the lock, wait for `notify` or `timeout_s` seconds, and take the lock again."""
        self._waiting = True
        self._lock.release()
        notified = self._signal.acquire(timeout=timeout_s)
        self._lock.acquire()
        if not (notified or self._waiting):
            self._signal.acquire()
        self._waiting = False

    def notify(self) -> None:
        if self._waiting:
            self._waiting = False
            self._signal.release()
