"""Missing sequence numbers on real sockets: what counts as missed, and what does not."""

from __future__ import annotations

import json

import pytest

from hybrid_engine.config.sources import Source
from hybrid_engine.ingest import sequence_gaps
from tests.support.feed_harness import FeedHarness, source
from tests.support.scripted_exchange import ScriptedExchange, trade

pytestmark = pytest.mark.usefixtures("fast_feed")


@pytest.mark.holds("MISSED")
def test_missing_numbers_are_counted_across_reconnects(
    primary: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence_gaps, "LATE_S", 0.0)
    with FeedHarness(source("primary", primary, "BTC/USD")) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(100), trade(101), trade(104))
        harness.wait_until(lambda: harness.admission.snapshot().missed == 2)
        primary.connections[0].close()
        harness.wait_until(lambda: len(primary.connections) == 2)
        primary.send(trade(103), trade(104), trade(110), trade(111))  # 104 again, and 103 too late
        harness.wait_until(lambda: 111 in harness.ids())
        harness.wait_until(lambda: harness.admission.snapshot().missed == 2 + 5)
        assert harness.admission.snapshot().duplicate == 1
        assert harness.ids() == [100, 101, 104, 103, 110, 111]
        primary.connections[1].close()
        harness.wait_until(lambda: len(primary.connections) == 3)
        primary.send(trade(120))
        harness.wait_until(lambda: harness.admission.snapshot().missed == 2 + 5 + 8)
        harness.admission.close_gaps(harness.ticks[-1].received_ms)
        assert [(gap.symbol, gap.missed) for gap in harness.gaps("missed")] == [("BTC/USD", 2 + 5 + 8)]


@pytest.mark.holds("MISSED")
def test_late_numbers_are_not_missed(primary: ScriptedExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trades after their turn, and a heartbeat that arrives before the trades whose ids it reports."""
    monkeypatch.setattr(sequence_gaps, "LATE_S", 3600.0)  # also on a slow machine; the stop records the rest

    def match(number: int, kind: str = "match", key: str = "trade_id") -> str:
        body = {"type": kind, "product_id": "BTC-USD", key: number, "price": "10.5", "size": "1"}
        return json.dumps({**body, "time": "2026-01-02T03:04:05Z"})

    with FeedHarness(Source("primary", primary.url(), "coinbase", ("BTC/USD",), 1, "")) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(match(1), match(5))
        harness.wait_until(lambda: 5 in harness.ids())
        primary.send(match(4), match(2), match(3))
        harness.wait_until(lambda: 3 in harness.ids())
        primary.send(match(9, "heartbeat", "last_trade_id"), match(6), match(8), match(9))
        primary.send(match(12, "heartbeat", "last_trade_id"))
        primary.send(match(13))
        harness.wait_until(lambda: 13 in harness.ids())
        assert harness.ids() == [1, 5, 4, 2, 3, 6, 8, 9, 13]
        assert harness.admission.snapshot().missed == 0
    assert harness.admission.snapshot().missed == 4  # 7, 10, 11 and 12 never came


@pytest.mark.holds("MISSED")
def test_stop_records_pending_gaps(primary: ScriptedExchange) -> None:
    with FeedHarness(source("primary", primary, "BTC/USD")) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1), trade(4))
        harness.wait_until(lambda: 4 in harness.ids())
    assert harness.admission.snapshot().missed == 2


@pytest.mark.holds("MISSED")
def test_trades_that_another_source_delivered_are_not_missed(
    primary: ScriptedExchange, secondary: ScriptedExchange
) -> None:
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, failback_after_s=0.6) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1), trade(2))
        harness.wait_until(lambda: 2 in harness.ids())
        primary.open_connections[0].close()
        harness.wait_active("secondary")
        number = 100

        def market() -> bool:
            nonlocal number
            number += 1
            secondary.send(trade(number))
            primary.send(trade(number))
            return harness.feed.source == "primary"

        harness.wait_until(market, "the failback")
        market()
        harness.wait_until(lambda: number in harness.ids("primary"))
        assert harness.admission.snapshot().missed == 0
        primary.send(trade(number + 4))
        harness.wait_until(lambda: harness.admission.snapshot().missed == 3)


@pytest.mark.holds("MISSED")
def test_gap_while_another_source_was_active_is_not_missed(
    primary: ScriptedExchange, secondary: ScriptedExchange
) -> None:
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1), trade(2))
        harness.wait_until(lambda: 2 in harness.ids())
        primary.open_connections[0].close()
        harness.wait_active("secondary")
        harness.wait_until(lambda: secondary.open_connections)
        secondary.send(trade(100))
        harness.wait_until(lambda: 100 in harness.ids())
        assert harness.ingest._selector.active["BTC/USD"].last_useful is harness.source("secondary")
        secondary.stop()
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(50), trade(52))
        harness.wait_until(lambda: harness.admission.snapshot().missed)
        assert harness.admission.snapshot().missed == 1


@pytest.mark.holds("MISSED")
def test_standby_numbers_are_tracked_but_not_counted(primary: ScriptedExchange, secondary: ScriptedExchange) -> None:
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, standby="hot") as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1))
        harness.wait_until(lambda: harness.ids() == [1] and secondary.open_connections)
        secondary.send(trade(101), trade(105))
        harness.wait_until(lambda: harness.source("secondary").traded_at)
        primary.open_connections[0].close()
        harness.wait_active("secondary")
        secondary.send(trade(108))
        harness.wait_until(lambda: harness.admission.snapshot().missed)
        assert harness.admission.snapshot().missed == 2
