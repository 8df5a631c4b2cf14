"""The channel: waiting for room and for events, and when each side is woken."""

from __future__ import annotations

import threading

import pytest

from hybrid_engine.domain.events import Signal, Tick
from hybrid_engine.stages.channel import Channel
from hybrid_engine.stages.wakeup import Wakeup
from tests.support.pipeline import nothing
from tests.support.process import wait_until


def tick(number: int) -> Tick:
    return Tick(number, "s", "X", 100.0, 1.0, number, 5, 6)


@pytest.mark.holds("S6")
def test_put_waits_for_room_with_heartbeats() -> None:
    channel = Channel(2)
    channel.put([tick(1), tick(2)], nothing)
    beats = threading.Event()
    producer = threading.Thread(target=lambda: channel.put([tick(3)], beats.set))
    producer.start()
    assert beats.wait(5)
    assert producer.is_alive()
    assert [event.id for event in channel.take()] == [1, 2]
    producer.join(5)
    assert [event.id for event in channel.take()] == [3]
    assert channel.take(0) == []


def test_wake_when_empty_wakes_producer_at_next_take() -> None:
    """Without another `take`, the producer would wake at its next heartbeat."""
    channel = Channel(1, wake_when_empty=True)
    channel.put([tick(1)], nothing)
    producer = threading.Thread(target=lambda: channel.put([tick(2), tick(3), tick(4)], nothing))
    producer.start()
    trades: list[int] = []
    while len(trades) < 4:
        trades += [event.id for event in channel.take(60)]
    producer.join(5)
    assert trades == [1, 2, 3, 4]


@pytest.mark.parametrize("lazy", [False, True])
def test_take_moves_in_producers_rest(lazy: bool) -> None:
    """The producer of a large batch sleeps until all of it is in; the channel never exceeds its capacity."""
    channel = Channel(2, wake_when_empty=lazy)
    asleep, woken = threading.Event(), threading.Event()
    output: list[str] = []

    class Room(Wakeup):
        def wait(self, timeout_s: float) -> None:
            asleep.set()
            super().wait(60)  # no timeout wakes it

        def notify(self) -> None:
            output.append("notified")
            super().notify()

    class Nothing(Wakeup):
        def wait(self, timeout_s: float) -> None:
            raise AssertionError("waited, and the producer holds more")

    def produce() -> None:
        channel.put([tick(number) for number in range(1, 6)], nothing)
        woken.set()

    channel._not_full = Room(channel._lock)
    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    assert asleep.wait(5)
    channel._not_empty, empty = Nothing(channel._lock), channel._not_empty
    assert [[event.id for event in channel.take(0, min_events=9)] for _ in range(2)] == [[1, 2], [3, 4]]
    channel._not_empty = empty
    assert channel.waiting == 1
    assert len(output) == (0 if lazy else 1)
    assert woken.wait(0.2 if lazy else 5) is not lazy
    assert [event.id for event in channel.take(0)] == [5]
    assert channel.take(0.01) == []
    assert woken.wait(5)


def test_take_waits_for_min_events() -> None:
    """`take` returns when enough events wait, when the producer has no room, at its timeout, and at the end."""
    channel = Channel(4)
    trades: list[list[int]] = []

    def consume() -> None:
        while not channel.finished:
            trades.append([event.id for event in channel.take(60, min_events=3)])

    consumer = threading.Thread(target=consume)
    consumer.start()
    channel.put([tick(1)], nothing)
    channel.put([tick(2)], nothing)
    assert trades == []
    channel.put([tick(3)], nothing)
    wait_until(lambda: trades == [[1, 2, 3]], "three of them")
    # A chain of three does not fit beside two events: both sides would wait if the producer did not notify.
    caused = Signal.of(tick(6), "BUY", 0.1, "R", 0.5)
    channel.put([tick(4), tick(5)], nothing)
    channel.put([tick(6), caused, caused._replace(id=7)], nothing)
    wait_until(lambda: [number for numbers in trades for number in numbers] == [1, 2, 3, 4, 5, 6, 6, 7], "the rest")
    channel.put([tick(8)], nothing)
    channel.close()
    consumer.join(5)
    assert trades[-1] == [8]
    channel = Channel(4)
    channel.put([tick(1)], nothing)
    assert [event.id for event in channel.take(0.01, min_events=3)] == [1]


def test_only_urgent_events_wake_a_waiting_consumer() -> None:
    channel = Channel(4)
    trades: list[list[int]] = []

    def consume() -> None:
        while not channel.finished:
            trades.append([event.id for event in channel.take(60)])

    consumer = threading.Thread(target=consume)
    consumer.start()
    wait_until(lambda: channel._not_empty._waiting, "the consumer")
    channel.put([tick(1)], nothing, urgent=False)
    channel.put([tick(2)], nothing, urgent=False)
    assert channel.waiting == 2
    channel.put([tick(3)], nothing)
    wait_until(lambda: trades == [[1, 2, 3]], "the urgent event, and those before it")
    wait_until(lambda: channel._not_empty._waiting, "the consumer")
    channel.put([tick(4)], nothing, urgent=False)
    channel.wake()
    wait_until(lambda: trades[1:] == [[4]], "what waits")
    wait_until(lambda: channel._not_empty._waiting, "the consumer")
    # Without room the producer waits for a consumer that must not sleep.
    channel.put([tick(number) for number in range(5, 15)], nothing, urgent=False)
    channel.close()
    consumer.join(5)
    assert [number for numbers in trades[2:] for number in numbers] == list(range(5, 15))
