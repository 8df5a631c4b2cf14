"""The channel between two stages: a bounded queue of events that a producer fills and a consumer empties in batches.

All waiting events are taken at once, and a list of events is handed over at once: one event at a time was measured
2.7 times slower end to end.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from hybrid_engine.domain.events import Event, Tick
from hybrid_engine.stages.wakeup import Wakeup

# How often a stage that waits (for input, for room, for a lock) shows a sign of life.
HEARTBEAT_S = 0.25


def count_whole_chains(events: Sequence[Event], room: int) -> int:
    """How many of the first events fit into `room` without cutting a chain: the next one is a tick, or all fit."""
    if room >= len(events):
        return len(events)
    while room > 0 and not isinstance(events[room], Tick):
        room -= 1
    return room


class Channel:
    """A queue of at most `capacity` events between one producer thread and one consumer thread.

    A batch that is larger than the free room is split, but only in front of a tick: a tick and the events it caused
    stay together, so the consumer never takes part of a chain. `capacity` must hold the longest chain. The rest of the
    batch stays with the producer, which sleeps; when the consumer makes room, it moves the next part in itself, so a
    large batch does not need a change of threads for each part (measured: docs/bench.md).

    With `wake_when_empty` a producer that waits for room is woken only once nothing is left to take. Where both sides
    only compute, waking it earlier makes it wait for the interpreter's lock (measured: a sixth less throughput).

    One lock guards all state. Both wakeups use it, so a check and the wait that follows it cannot miss a wakeup.
    """

    def __init__(self, capacity: int, *, wake_when_empty: bool = False) -> None:
        self._lock = threading.Lock()
        self._not_empty = Wakeup(self._lock)
        self._not_full = Wakeup(self._lock)
        self._capacity = capacity
        self._wake_when_empty = wake_when_empty
        self._events: deque[Event] = deque()
        self._rest: Sequence[Event] = ()  # of the batch that a waiting producer still holds
        self._closed = False
        self._min_events = 1  # what a waiting consumer wants to be woken for

    @property
    def waiting(self) -> int:
        """The number of waiting events, at some moment during the call."""
        return len(self._events)

    def put(self, events: Sequence[Event], heartbeat: Callable[[], None], *, urgent: bool = True) -> None:
        """Put all of `events`. Waits for room as long as it takes, and calls `heartbeat` while it waits.

        What is not `urgent` does not wake a waiting consumer: that is left to a later `put`, or to `wake`.
        """
        with self._lock:
            self._rest = events
            self._move_rest_in()
            while self._rest:
                self._not_empty.notify()
                self._not_full.wait(HEARTBEAT_S)
                heartbeat()
            if urgent and len(self._events) >= self._min_events:
                self._not_empty.notify()

    def wake(self) -> None:
        """Let a waiting consumer take what is there."""
        with self._lock:
            self._not_empty.notify()

    def _move_rest_in(self) -> None:
        """Move in what fits of the producer's rest."""
        if self._rest:
            end = count_whole_chains(self._rest, self._capacity - len(self._events))
            self._events.extend(self._rest[:end])
            self._rest = self._rest[end:]

    def take(self, timeout_s: float = HEARTBEAT_S, min_events: int = 1) -> Sequence[Event]:
        """All waiting events; none when nothing arrived within `timeout_s`, or when the channel is finished.

        Waits until `min_events` are there, or until the producer waits for room.
        """
        with self._lock:
            if len(self._events) < min_events and not self._rest and not self._closed:
                self._min_events = min_events
                if self._wake_when_empty:
                    self._not_full.notify()
                self._not_empty.wait(timeout_s)
                self._min_events = 1
            events = list(self._events)
            self._events.clear()
            if events:
                self._count_taken(len(events))
                self._move_rest_in()
                if not self._wake_when_empty and not self._rest:
                    self._not_full.notify()
            return events

    def _count_taken(self, count: int) -> None:
        """Called under the lock when the consumer takes `count` events."""

    def close(self) -> None:
        """The producer is done. Waiting events can still be taken; then the channel is finished."""
        with self._lock:
            self._closed = True
            self._not_empty.notify()

    @property
    def finished(self) -> bool:
        """Closed and empty: nothing will ever arrive again."""
        with self._lock:
            return self._closed and not self._events
