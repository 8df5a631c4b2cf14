"""Planned moves on real sockets: a connection is replaced before the exchange closes it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import pytest

from hybrid_engine.ingest import source_state
from hybrid_engine.ingest.connection_attempt import ConnectionAttempt
from hybrid_engine.ingest.failure import SourceUndecodable
from hybrid_engine.ingest.session import Session
from tests.support.feed_harness import FeedHarness, source
from tests.support.scripted_exchange import ScriptedExchange, trade

pytestmark = pytest.mark.usefixtures("fast_feed")
OVERLAP_S = source_state.OVERLAP_S
SHUTDOWN = json.dumps({"e": "serverShutdown", "E": 1_770_123_456_789})


def test_early_close_is_a_failure_that_the_new_connection_ends(primary: ScriptedExchange) -> None:
    with FeedHarness(source("primary", primary, "BTC/USD")) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.handshake_s = 0.5
        primary.send(trade(1), SHUTDOWN)
        harness.wait_until(lambda: len(primary.attempts) == 2)
        primary.connections[0].close()
        harness.wait_until(lambda: harness.feed.source_failures == 1)
        harness.wait_until(lambda: len(primary.connections) == 2)
        primary.connections[1].send(trade(2))
        harness.wait_until(lambda: harness.ids() == [1, 2])
        assert len(primary.attempts) == 2


@pytest.mark.holds("MOVES")
def test_move_is_due_before_the_lifetime_is_over(primary: ScriptedExchange) -> None:
    state = FeedHarness(source("primary", primary, "BTC/USD")).source("primary")
    day_s = 86_400.0  # after which Binance closes a connection
    state.session = cast(Session, SimpleNamespace(closing_reason=""))
    for _ in range(50):  # it is drawn
        state._plan_move(1000.0)
        assert state.move_reason(1000.0 + 0.89 * day_s) == ""
        assert state.move_reason(1000.0 + 0.99 * day_s) == "its lifetime is nearly over"


@pytest.mark.holds("PACE")
def test_connection_for_a_move_counts_as_an_attempt(primary: ScriptedExchange) -> None:
    state = FeedHarness(source("primary", primary, "BTC/USD")).source("primary")
    state.session = cast(Session, SimpleNamespace(closing_reason="it said so"))
    for _ in range(12):
        assert state.retry.retry_at <= 1000.0
        state.begin_connecting(1000.0, "a move", cast(ConnectionAttempt, None))
    assert state.retry.retry_at == 1060.0


@pytest.mark.holds("G5")
def test_source_that_did_not_decode_is_usable_once_it_trades(primary: ScriptedExchange) -> None:
    state = FeedHarness(source("primary", primary, "BTC/USD")).source("primary")
    assert state.mark_seen(1.0, 1000, traded=False)
    state.fail(2.0, SourceUndecodable("20 frames"), 60.0)
    assert not state.mark_seen(3.0, 3000, traded=False)
    assert state.mark_seen(4.0, 4000, traded=True)


@pytest.mark.holds("MOVES")
def test_connections_are_read_side_by_side_for_a_second(
    primary: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_state, "OVERLAP_S", OVERLAP_S)  # which `fast_feed` has shortened
    state = FeedHarness(source("primary", primary, "BTC/USD")).source("primary")
    assert not state.move_ready(1000.0)
    state.successor = cast(Session, SimpleNamespace(first_valid_at=None))
    assert not state.move_ready(1000.0)
    state.successor.first_valid_at = 1000.0
    assert not state.move_ready(1000.9)
    assert state.move_ready(1001.0)


@pytest.mark.holds("MOVES")
@pytest.mark.parametrize("cause", ["announced", "lifetime"])
def test_planned_move_loses_and_repeats_nothing(
    primary: ScriptedExchange, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cause == "lifetime":
        monkeypatch.setattr(source_state, "MOVE_AFTER", (1e-5, 1e-5))  # of 24 h: 0.9 s
    with FeedHarness(source("primary", primary, "BTC/USD")) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        number = 0

        def market() -> bool:
            nonlocal number
            number += 1
            primary.send(trade(number))  # both connections receive the same trades
            return harness.feed.moves == 1

        market()
        if cause == "announced":
            primary.send(SHUTDOWN)
        harness.wait_until(market, "the move")
        harness.wait_until(lambda: not primary.connections[0].open)
        market()
        harness.wait_until(lambda: number in harness.ids())
        assert harness.ids() == list(range(1, number + 1))
        counters = harness.admission.snapshot()
        assert (counters.duplicate, counters.missed, harness.feed.source_failures) == (0, 0, 0)
        assert harness.gaps("down") == []
        assert len(primary.attempts) == 2
        primary.send(SHUTDOWN)
        harness.sleep(0.3)
        assert len(primary.attempts) == 2  # at most one move a minute, however often it is announced


def test_old_connection_that_closes_during_a_move_is_no_failure(
    primary: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_state, "OVERLAP_S", 60.0)
    with FeedHarness(source("primary", primary, "BTC/USD")) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1), SHUTDOWN)
        harness.wait_until(lambda: harness.source("primary").successor, "the new connection beside the old one")
        primary.send(trade(2))
        harness.wait_until(lambda: 2 in harness.ids())
        harness.wait_until(lambda: len(primary.connections) > 1, "the exchange to know the new connection")
        primary.connections[1].send(trade(3))
        primary.connections[0].close()
        harness.wait_until(lambda: harness.feed.moves == 1)
        primary.send(trade(4))
        harness.wait_until(lambda: 4 in harness.ids())
        assert harness.ids() == [1, 2, 3, 4]
        assert harness.feed.source_failures == 0


def test_standby_keeps_its_trades_across_a_move(primary: ScriptedExchange, secondary: ScriptedExchange) -> None:
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, standby="hot") as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1))
        harness.wait_until(lambda: harness.ids() == [1] and secondary.open_connections)
        secondary.send(trade(101), trade(102), SHUTDOWN)
        harness.wait_until(lambda: len(secondary.connections) == 2)
        secondary.send(trade(103))
        harness.wait_until(lambda: harness.feed.moves == 1)
        secondary.send(trade(104))
        harness.wait_until(lambda: len(secondary.open_connections) == 1)
        harness.sleep(0.1)
        assert harness.ids() == [1]
        primary.open_connections[0].close()
        harness.wait_active("secondary")
        harness.wait_until(lambda: len(harness.ids("secondary")) == 4)
        assert harness.ids("secondary") == [101, 102, 103, 104]
