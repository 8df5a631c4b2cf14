"""Bounded channels between stages, on `queue.Queue`.

Capacity is counted in events. Whatever waits is taken in one go, and a list is handed over in one go: one event at a
time was measured 2.7 times slower end to end.
"""

import queue
from collections import deque
from collections.abc import Callable, Sequence

from hybrid_engine.domain.events import Event, Tick

# How often a stage that waits (for input, for room, for a lock) says that it is alive.
BEAT_S = 0.25


def whole_chains(events: Sequence[Event], room: int) -> int:
    """How many of the first events fit into `room`, up to in front of a tick (or all of them)."""
    if room >= len(events):
        return len(events)
    while room > 0 and not isinstance(events[room], Tick):
        room -= 1
    return room


class Channel(queue.Queue[Sequence[Event]]):
    """One producer, one consumer, at most `maxsize` events.

    A hand-over larger than the room left is split, but only in front of a tick: a tick and what it caused stay
    together, so that whoever takes from the channel never sees half a chain. `maxsize` must hold the longest chain.
    The rest stays with its producer, which sleeps: whoever takes makes room and moves the next piece in, so that a
    large hand-over needs no change of threads for each piece (measured: docs/bench.md).

    `lazy`: a producer that waits for room is told once there is nothing left to take. Where both sides only compute,
    telling it earlier wakes it to wait for the interpreter's lock (measured: the house took in a sixth less).
    """

    def __init__(self, maxsize: int, *, lazy: bool = False) -> None:
        super().__init__(maxsize)
        self._lazy = lazy

    def _init(self, maxsize: int) -> None:
        self._events: deque[Event] = deque()
        self._rest: Sequence[Event] = ()  # what a producer that waits for room still holds
        self._closed = False
        self._wanted = 1

    def _qsize(self) -> int:
        return len(self._events)

    def _put(self, item: Sequence[Event]) -> None:
        self._events.extend(item)

    def _get(self) -> Sequence[Event]:
        taken = list(self._events)
        self._events.clear()
        return taken

    def hand_over(self, events: Sequence[Event], heartbeat: Callable[[], None]) -> None:
        """Put all of `events`, waiting for room as long as it takes and calling `beat` while waiting."""
        with self.mutex:
            self._rest = events
            self._refill()
            while self._rest:
                self.not_empty.notify()
                self.not_full.wait(BEAT_S)
                heartbeat()
            if len(self._events) >= self._wanted:
                self.not_empty.notify()

    def _refill(self) -> None:
        """Move in what has room of the hand-over under way."""
        if self._rest:
            end = whole_chains(self._rest, self.maxsize - len(self._events))
            self._put(self._rest[:end])
            self._rest = self._rest[end:]

    def take(self, timeout_s: float = BEAT_S, wanted: int = 1) -> Sequence[Event]:
        """Everything that waits; empty when nothing came within `timeout_s` or the channel is finished.

        Waits until `wanted` events are there, or the producer waits for room.
        """
        with self.mutex:
            if len(self._events) < wanted and not self._rest and not self._closed:
                self._wanted = wanted
                if self._lazy:
                    self.not_full.notify()
                self.not_empty.wait(timeout_s)
                self._wanted = 1
            taken = self._get()
            if taken:
                self._taken(len(taken))
                self._refill()
                if not self._lazy and not self._rest:
                    self.not_full.notify()
            return taken

    def _taken(self, count: int) -> None:
        """Called under the lock when the consumer took `count` events."""

    def close(self) -> None:
        """The producer is done: what waits can still be taken, then the channel is finished."""
        with self.mutex:
            self._closed = True
            self.not_empty.notify_all()

    @property
    def finished(self) -> bool:
        """Closed and empty: nothing will ever come again."""
        with self.mutex:
            return self._closed and not self._events
