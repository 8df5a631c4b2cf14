"""Reads are spaced by READ_EVERY_S: none is delayed for longer, and a rare frame is read at once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid_engine.ingest import connection_poller
from hybrid_engine.ingest.connection_poller import READ_EVERY_S, ConnectionPoller
from hybrid_engine.ingest.session import Session
from hybrid_engine.ingest.source_state import SourceState

SOURCE = cast(SourceState, None)


class Clock:
    """Advances only by `sleep`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


class FakeSession:
    """What the poller reads of a session."""

    def __init__(self, fileno: int) -> None:
        self.fileno, self.open = fileno, True


class PolledConnection:
    """A poller with one connection."""

    def __init__(self) -> None:
        self.poller = ConnectionPoller()
        self.local, self.remote = socket.socketpair()
        self.session = cast(Session, FakeSession(self.local.fileno()))
        self.poller.register(self.session, SOURCE)

    def send(self) -> None:
        self.remote.send(b".")

    def read(self) -> bool:
        """Poll, and read the connection where it has something; whether it had."""
        sessions = self.poller.poll(0.0)[0]
        assert sessions in ([], [(self.session, SOURCE)])
        return bool(sessions) and bool(self.local.recv(4096))

    def close(self) -> None:
        self.poller.close()
        self.local.close()
        self.remote.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(connection_poller, "time", clock)
    return clock


@pytest.fixture
def connection(clock: Clock) -> Iterator[PolledConnection]:
    connection = PolledConnection()
    yield connection
    connection.close()


def test_early_data_waits_for_the_rest_of_the_interval(connection: PolledConnection, clock: Clock) -> None:
    connection.send()
    assert connection.read()
    assert not clock.sleeps
    clock.now += READ_EVERY_S / 4
    connection.send()
    assert connection.read()
    assert clock.sleeps == [pytest.approx(READ_EVERY_S * 3 / 4, rel=1e-3)]


def test_poll_without_data_does_not_sleep(connection: PolledConnection, clock: Clock) -> None:
    connection.send()
    assert connection.read()
    clock.now += READ_EVERY_S * 3 / 4
    for _ in range(3):
        assert not connection.read()
        connection.poller.wake()
        assert connection.poller.poll(0.0) == ([], True)
    assert not clock.sleeps
    connection.send()
    assert connection.read()
    assert clock.sleeps == [pytest.approx(READ_EVERY_S / 4, rel=1e-3)]


def test_pending_data_is_spaced(connection: PolledConnection, clock: Clock) -> None:
    connection.send()
    assert connection.read()
    connection.poller.add_pending(connection.session, SOURCE)
    assert connection.poller.poll(10.0)[0] == [(connection.session, SOURCE)]
    assert clock.sleeps == [pytest.approx(READ_EVERY_S, rel=1e-3)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0, 4 * READ_EVERY_S), min_size=1, max_size=40))
def test_reads_are_spaced_and_never_delayed_for_longer(
    connection: PolledConnection, clock: Clock, gaps: list[float]
) -> None:
    clock.now += 1.0
    read_at = float("-inf")
    for gap in gaps:
        clock.now += gap
        sent_at = clock.now
        connection.send()
        assert connection.read()
        assert clock.now - sent_at <= READ_EVERY_S + 1e-9
        assert clock.now - read_at >= READ_EVERY_S - 1e-9
        assert clock.now == sent_at or sent_at - read_at < READ_EVERY_S
        read_at = clock.now
