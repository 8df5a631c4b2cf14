"""The feed on real sockets: which source is active, which stands by, and what a failover delivers."""

from __future__ import annotations

import pytest

from tests.support.feed_harness import FeedHarness, source
from tests.support.scripted_exchange import ScriptedExchange, trade

pytestmark = pytest.mark.usefixtures("fast_feed")
NOISE = '{"e":"24hrTicker"}'


def test_each_symbol_comes_from_its_best_source(primary: ScriptedExchange, secondary: ScriptedExchange) -> None:
    both = "btcusdt@trade/ethusdt@trade/xrpusdt@trade"
    first = source("primary", primary, "ETH/USDT", stream="ethusdt@trade/btcusdt@trade")
    second = source("secondary", secondary, "BTC/USDT", "ETH/USDT", priority=2, stream=both)
    with FeedHarness(first, second) as harness:
        harness.wait_active("primary, secondary")
        harness.wait_until(lambda: primary.open_connections and secondary.open_connections)
        secondary.send(trade(11, "ETHUSDT"), trade(12, "BTCUSDT"), trade(13, "XRPUSDT"), trade(14, "ETHUSDT"))
        harness.wait_until(lambda: len(harness.ids()) >= 2)
        primary.send(trade(1, "ETHUSDT"), trade(2, "BTCUSDT"))
        harness.wait_until(lambda: len(harness.ids()) >= 4)
        ticks = sorted((tick.source, tick.symbol, tick.exchange_id) for tick in harness.ticks)
        # The primary is not configured for BTC, which keeps its own name; the secondary is not active for ETH.
        assert ticks == [
            ("primary", "BTCUSDT", 2),
            ("primary", "ETH/USDT", 1),
            ("secondary", "BTC/USDT", 12),
            ("secondary", "XRPUSDT", 13),
        ]
        assert harness.admission.snapshot().received == 4
        primary.stop()
        harness.wait_active("secondary")
        secondary.send(trade(15, "ETHUSDT"))
        harness.wait_until(lambda: 15 in harness.ids())
        # Trade 14 arrived before the last trade of the primary.
        assert harness.ids("secondary") == [12, 13, 15]
        assert {gap.symbol for gap in harness.gaps("down")} >= {"ETH/USDT"}


def test_cold_standby_connects_active_source_only(primary: ScriptedExchange, secondary: ScriptedExchange) -> None:
    with FeedHarness(
        source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    ) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1))
        harness.wait_until(lambda: harness.ids() == [1])
        harness.wait_until(lambda: harness.feed.sources == {"primary": "trading", "secondary": "off"})
        assert harness.feed.sources_connected == 1
        assert secondary.attempts == []


@pytest.mark.holds("STANDBY")
def test_hot_standby_takes_over_with_the_trades_it_received(
    primary: ScriptedExchange, secondary: ScriptedExchange
) -> None:
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, standby="hot") as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1))
        harness.wait_until(lambda: secondary.open_connections, "the standby's connection")
        secondary.send(trade(101))
        primary.send(trade(2))
        harness.wait_until(lambda: harness.ids() == [1, 2])
        harness.wait_until(lambda: harness.feed.sources == {"primary": "trading", "secondary": "standby"})
        # From here on the primary is silent while the secondary trades.
        secondary.send(trade(102), trade(103))
        harness.wait_until(lambda: harness.source("secondary").traded_at)
        secondary.send(trade(104))
        harness.sleep(0.1)
        assert harness.ids() == [1, 2]
        primary.open_connections[0].close()
        harness.wait_active("secondary")
        secondary.send(trade(105))
        harness.wait_until(lambda: 105 in harness.ids())
        assert harness.ids("secondary")[-4:] == [102, 103, 104, 105]
        assert len(secondary.attempts) == 1
        by_id = {tick.exchange_id: tick for tick in harness.ticks}
        # They are stored with the time at which they arrived, not that of the failover.
        assert by_id[102].received_ms < by_id[105].received_ms
        (down,) = harness.gaps("down")
        assert down.to_ms is not None
        assert down.to_ms <= max(down.from_ms, by_id[102].received_ms)


@pytest.mark.holds("STALE")
@pytest.mark.parametrize("standby", ["hot", "cold"])
def test_source_with_heartbeats_but_no_trades_is_replaced(
    primary: ScriptedExchange, secondary: ScriptedExchange, standby: str
) -> None:
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, standby=standby, stale_after_s=0.4) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1))
        number = 100

        def market() -> bool:
            nonlocal number
            number += 1
            primary.send(NOISE)
            secondary.send(trade(number))
            return harness.feed.source == "secondary"

        harness.wait_until(market, "the failover")
        assert harness.feed.stale_count == 1
        assert harness.feed.dead_count == 0
        (stale,) = harness.gaps("stale")
        assert (stale.source, stale.symbol, stale.missed) == ("primary", "BTC/USD", None)
        first_tick = harness.ticks[0]
        assert abs(stale.from_ms - first_tick.received_ms) <= 250  # two clocks are read one after the other
        ids = harness.ids("secondary")
        assert ids == list(range(int(ids[0] or 0), int(ids[0] or 0) + len(ids)))
        if standby == "cold":
            harness.wait_until(lambda: harness.feed.sources["primary"] == "stale" and not primary.open_connections)


@pytest.mark.holds("QUIET")
@pytest.mark.parametrize("standby", ["hot", "cold"])
def test_quiet_market_keeps_active_source(primary: ScriptedExchange, secondary: ScriptedExchange, standby: str) -> None:
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, standby=standby, stale_after_s=0.3, dead_after_s=0.6) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1))
        harness.wait_until(lambda: harness.feed.quiet_count == 1)
        harness.wait_until(lambda: harness.feed.sources["primary"] == "quiet")
        harness.wait_until(lambda: secondary.attempts)
        harness.sleep(2.5)  # eight times stale_after_s, and four times dead_after_s with nothing but pongs
        assert harness.feed.source == "primary"
        assert (harness.feed.source_failures, harness.feed.stale_count, harness.feed.dead_count) == (0, 0, 0)
        assert len(secondary.attempts) <= 3
        primary.send(trade(2))
        harness.wait_until(lambda: harness.ids() == [1, 2])
        assert harness.gaps("stale") == harness.gaps("down") == []


@pytest.mark.holds("FAILBACK")
def test_failback_waits_until_better_source_is_proven(primary: ScriptedExchange, secondary: ScriptedExchange) -> None:
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, failback_after_s=0.8) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.open_connections[0].close()
        harness.wait_active("secondary")
        number = 100

        def market() -> bool:
            nonlocal number
            number += 1
            secondary.send(trade(number))
            primary.send(trade(number + 1000))
            return harness.feed.source == "primary"

        harness.wait_until(market, "the failback")
        harness.wait_until(lambda: not secondary.open_connections, "the release of the secondary")
        assert harness.feed.moves == 1
        assert harness.feed.source_failures == 1
        assert len(primary.attempts) == 2
        assert primary.attempts[1] - primary.attempts[0] >= 0.2  # not at once
        # The trades of the primary begin where those of the secondary end.
        order = [tick.source for tick in harness.ticks]
        assert order == sorted(order, key=lambda name: name == "primary")
        ids = harness.ids("primary")
        assert ids == list(range(int(ids[0] or 0), int(ids[0] or 0) + len(ids)))
        assert harness.ids("secondary")[-1] in (int(ids[0] or 0) - 1000, int(ids[0] or 0) - 1001)
        assert {gap.source for gap in harness.gaps("down")} == {"primary"}
