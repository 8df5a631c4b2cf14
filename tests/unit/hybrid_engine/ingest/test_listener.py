"""Reads are spaced: many frames are read in one go, none is held for longer than is told, rare ones not at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid_engine.ingest import listener
from hybrid_engine.ingest.listener import READ_EVERY_S, Listener
from hybrid_engine.ingest.session import Session
from hybrid_engine.ingest.source_connection import SourceConnection

LINK = cast(SourceConnection, None)


class Clock:
    """Stands still but for what is slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Open:
    """What the listener knows of a session."""

    def __init__(self, fileno: int) -> None:
        self.fileno, self.open = fileno, True


class Line:
    """A listener with one connection to a source."""

    def __init__(self) -> None:
        self.listener = Listener()
        self.here, self.there = socket.socketpair()
        self.session = cast(Session, Open(self.here.fileno()))
        self.listener.open(self.session, LINK)

    def comes(self) -> None:
        self.there.send(b".")

    def found(self) -> bool:
        """Whether the connection is found to have something; it is read then."""
        found = self.listener.ready(0.0).sessions
        assert found in ([], [(self.session, LINK)])
        return bool(found) and bool(self.here.recv(4096))

    def close(self) -> None:
        self.listener.close()
        self.here.close()
        self.there.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(listener, "time", made)
    return made


@pytest.fixture
def line(clock: Clock) -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def test_what_comes_soon_after_the_last_read_waits_for_the_rest_of_the_time(line: Line, clock: Clock) -> None:
    line.comes()
    assert line.found()
    assert not clock.slept
    clock.now += READ_EVERY_S / 4
    line.comes()
    assert line.found()
    assert clock.slept == [pytest.approx(READ_EVERY_S * 3 / 4, rel=1e-3)]


def test_nothing_to_read_is_no_read_and_is_not_slept_over(line: Line, clock: Clock) -> None:
    line.comes()
    assert line.found()
    clock.now += READ_EVERY_S * 3 / 4
    for _ in range(3):
        assert not line.found()
        line.listener.ring()
        assert line.listener.ready(0.0) == ([], True)
    assert not clock.slept
    line.comes()
    assert line.found()
    assert clock.slept == [pytest.approx(READ_EVERY_S / 4, rel=1e-3)]


def test_what_a_connection_still_holds_is_spaced_as_well(line: Line, clock: Clock) -> None:
    line.comes()
    assert line.found()
    line.listener.holds_more(line.session, LINK)
    assert line.listener.ready(10.0).sessions == [(line.session, LINK)]
    assert clock.slept == [pytest.approx(READ_EVERY_S, rel=1e-3)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0, 4 * READ_EVERY_S), min_size=1, max_size=40))
def test_reads_are_spaced_and_nothing_is_held_for_longer(line: Line, clock: Clock, gaps: list[float]) -> None:
    clock.now += 1.0
    read_at = float("-inf")
    for gap in gaps:
        clock.now += gap
        came_at = clock.now
        line.comes()
        assert line.found()
        assert clock.now - came_at <= READ_EVERY_S + 1e-9
        assert clock.now - read_at >= READ_EVERY_S - 1e-9
        assert clock.now == came_at or came_at - read_at < READ_EVERY_S
        read_at = clock.now
