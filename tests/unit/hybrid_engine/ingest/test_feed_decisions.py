"""What the feed decides by its clock and its sources: deadlines, pauses, gaps, and what is read before a move."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hybrid_engine.ingest.source_state import SourceState
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import NetworkError, ParseError
from tests.support.feed_harness import FeedHarness, source
from tests.support.scripted_exchange import ScriptedExchange, trade

pytestmark = pytest.mark.usefixtures("fast_feed")


def idle(primary: ScriptedExchange, secondary: ScriptedExchange, **settings: Any) -> FeedHarness:
    """A feed of two sources whose thread does not run."""
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    return FeedHarness(*pair, **settings)


@pytest.mark.holds("G5")
@pytest.mark.parametrize(
    ("undecodable", "error"),
    [
        ((False, False), NetworkError),
        ((True, False), NetworkError),
        ((False, True), NetworkError),
        ((True, True), ParseError),
    ],
)
def test_deadline_ends_the_run_when_it_is_over(
    primary: ScriptedExchange, secondary: ScriptedExchange, undecodable: tuple[bool, bool], error: type[Exception]
) -> None:
    ingest = idle(primary, secondary, network_deadline_s=60.0).ingest
    for one, value in zip(ingest._sources, undecodable, strict=True):
        one.undecodable = value
    ingest._delivery.usable_at = time.monotonic() - 50.0
    ingest._check_deadline()
    ingest._delivery.usable_at = time.monotonic() - 60.0
    with pytest.raises(error, match="for 60 s: primary, secondary"):
        ingest._check_deadline()


@pytest.mark.holds("PACE")
def test_source_that_asks_for_time_is_left_alone(primary: ScriptedExchange) -> None:
    primary.refusal = b"HTTP/1.1 503 Unavailable\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"
    with FeedHarness(source("primary", primary, "BTC/USD")) as harness:
        harness.wait_until(lambda: harness.feed.source_failures == 1)
        harness.sleep(1.5)  # many turns of the housekeeping
        assert len(primary.attempts) == 1


@pytest.mark.holds("PACE")
def test_probe_that_asks_for_time_is_left_alone(primary: ScriptedExchange, secondary: ScriptedExchange) -> None:
    secondary.refusal = b"HTTP/1.1 503 Unavailable\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, standby="cold", stale_after_s=0.3) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1))  # and then the market is quiet, so that the other source is looked at
        harness.wait_until(lambda: secondary.attempts)
        harness.sleep(1.5)
        assert len(secondary.attempts) == 1


@pytest.mark.holds("FAILOVER")
@pytest.mark.parametrize("standby", ["hot", "cold"])
def test_down_gap_is_as_long_as_the_silence(
    primary: ScriptedExchange, secondary: ScriptedExchange, standby: str
) -> None:
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, standby=standby) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        if standby == "hot":  # nothing of the standby is left to be offered at the failover
            harness.wait_until(lambda: secondary.open_connections)
            secondary.send(trade(2))
            harness.wait_until(lambda: harness.source("secondary").traded_at)
        primary.send(trade(1))
        harness.wait_until(lambda: harness.ids() == [1])
        harness.sleep(0.8)
        primary.stop()
        harness.wait_active("secondary")
        active_ms = now_ms()
        if standby == "cold":
            harness.wait_until(lambda: secondary.open_connections)
            secondary.send(trade(2))
        harness.wait_until(lambda: [gap for gap in harness.gaps("down") if gap.to_ms is not None], "the end of the gap")
        (down,) = harness.gaps("down")
        last = harness.ticks[0].received_ms
        assert (down.source, down.symbol, down.missed) == ("primary", "BTC/USD", None)
        assert abs(down.from_ms - last) <= 250
        if standby == "hot":
            assert down.to_ms is not None
            assert down.to_ms <= active_ms


@pytest.mark.holds("MOVES")
def test_move_takes_what_the_old_connection_still_has(primary: ScriptedExchange, secondary: ScriptedExchange) -> None:
    ingest = idle(primary, secondary).ingest
    steps: list[str] = []
    new = SimpleNamespace(marks=[], unknown_symbols=set(), inherit_standby_trades=lambda old: steps.append("inherit"))

    def finish_move(now: float) -> SimpleNamespace:
        steps.append("move")
        return new

    old = SimpleNamespace(open=True, connection=SimpleNamespace(receive=lambda: [b"unread"]))
    moving = SimpleNamespace(
        name="primary",
        session=old,
        active_symbols=set(),
        sequence=SimpleNamespace(start_connection=lambda wanted: None),
        finish_move=finish_move,
    )
    ingest._delivery = cast(
        Any,
        SimpleNamespace(
            deliver=lambda source, session, messages, limit: steps.append(f"deliver {messages}"),
            observe_marks=lambda *_: None,
        ),
    )
    ingest._poller = cast(Any, SimpleNamespace(close_session=lambda session: steps.append("close")))
    ingest._move(cast(SourceState, moving))
    assert steps == ["deliver [b'unread']", "close", "move", "inherit"]
