"""The feed on real sockets: who leads, who stands by, what is taken over."""

from __future__ import annotations

import pytest

from tests.support.feeding import Feeding, source
from tests.support.talker import Talker, trade

pytestmark = pytest.mark.usefixtures("quick")
NOISE = '{"e":"24hrTicker"}'


def test_each_symbol_is_led_by_its_best_source_and_taken_from_it_alone(one: Talker, two: Talker) -> None:
    both = "btcusdt@trade/ethusdt@trade/xrpusdt@trade"
    first = source("first", one, "ETH/USDT", stream="ethusdt@trade/btcusdt@trade")
    second = source("second", two, "BTC/USDT", "ETH/USDT", priority=2, stream=both)
    with Feeding(first, second) as feeding:
        feeding.leads("first, second")
        feeding.until(lambda: one.open and two.open)
        two.say(trade(11, "ETHUSDT"), trade(12, "BTCUSDT"), trade(13, "XRPUSDT"), trade(14, "ETHUSDT"))
        feeding.until(lambda: len(feeding.ids()) >= 2)
        one.say(trade(1, "ETHUSDT"), trade(2, "BTCUSDT"))
        feeding.until(lambda: len(feeding.ids()) >= 4)
        found = sorted((tick.source, tick.symbol, tick.exchange_id) for tick in feeding.ticks)
        # BTC of the first was not asked for and comes under its own name; ETH of the second is led by another.
        assert found == [
            ("first", "BTCUSDT", 2),
            ("first", "ETH/USDT", 1),
            ("second", "BTC/USDT", 12),
            ("second", "XRPUSDT", 13),
        ]
        assert feeding.admission.snapshot().received == 4
        one.stop()
        feeding.leads("second")
        two.say(trade(15, "ETHUSDT"))
        feeding.until(lambda: 15 in feeding.ids())
        # What was heard before the other one's last trade is no news.
        assert feeding.ids("second") == [12, 13, 15]
        assert {gap.symbol for gap in feeding.gaps("down")} >= {"ETH/USDT"}


def test_with_one_symbol_and_cold_only_the_leader_is_connected(one: Talker, two: Talker) -> None:
    with Feeding(source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1))
        feeding.until(lambda: feeding.ids() == [1])
        feeding.until(lambda: feeding.feed.sources == {"first": "trading", "second": "off"})
        assert feeding.feed.sources_connected == 1
        assert two.tried == []


@pytest.mark.holds("STANDBY")
def test_a_hot_standby_takes_over_at_once_with_all_it_heard_since(one: Talker, two: Talker) -> None:
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair, standby="hot") as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1))
        two_is_there = "the standby's connection"
        feeding.until(lambda: two.open, two_is_there)
        two.say(trade(101))
        one.say(trade(2))
        feeding.until(lambda: feeding.ids() == [1, 2])
        feeding.until(lambda: feeding.feed.sources == {"first": "trading", "second": "standby"})
        # From here on the first one is silent: what the second says is what the market does.
        two.say(trade(102), trade(103))
        feeding.until(lambda: feeding.ingest._links["second"].standing.traded_at)
        two.say(trade(104))
        feeding.rest(0.1)
        assert feeding.ids() == [1, 2]
        one.open[0].close()
        feeding.leads("second")
        two.say(trade(105))
        feeding.until(lambda: 105 in feeding.ids())
        assert feeding.ids("second")[-4:] == [102, 103, 104, 105]
        assert len(two.tried) == 1
        by_id = {tick.exchange_id: tick for tick in feeding.ticks}
        # They are booked with the time at which they came, not with that of the change.
        assert by_id[102].received_ms < by_id[105].received_ms
        (down,) = feeding.gaps("down")
        assert down.to_ms is not None
        assert down.to_ms <= max(down.from_ms, by_id[102].received_ms)


@pytest.mark.holds("STALE")
@pytest.mark.parametrize("standby", ["hot", "cold"])
def test_a_source_that_only_beats_while_a_rival_trades_is_left(one: Talker, two: Talker, standby: str) -> None:
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair, standby=standby, stale_after_s=0.4) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1))
        number = 100

        def market() -> bool:
            nonlocal number
            number += 1
            one.say(NOISE)
            two.say(trade(number))
            return feeding.feed.source == "second"

        feeding.until(market, "the change")
        assert feeding.feed.stale_count == 1
        assert feeding.feed.dead_count == 0
        (stale,) = feeding.gaps("stale")
        assert (stale.source, stale.symbol, stale.missed) == ("first", "BTC/USD", None)
        first_tick = feeding.ticks[0]
        assert abs(stale.from_ms - first_tick.received_ms) <= 250  # two clocks, read one after the other
        taken = feeding.ids("second")
        assert taken == list(range(int(taken[0] or 0), int(taken[0] or 0) + len(taken)))
        if standby == "cold":
            feeding.until(lambda: feeding.feed.sources["first"] == "stale" and not one.open)


@pytest.mark.holds("QUIET")
@pytest.mark.parametrize("standby", ["hot", "cold"])
def test_a_quiet_market_is_stayed_with_and_rivals_are_asked_rarely(one: Talker, two: Talker, standby: str) -> None:
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair, standby=standby, stale_after_s=0.3, dead_after_s=0.6) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1))
        feeding.until(lambda: feeding.feed.quiet_count == 1)
        feeding.until(lambda: feeding.feed.sources["first"] == "quiet")
        feeding.until(lambda: two.tried)
        feeding.rest(2.5)  # eight times stale_after_s, and four times dead_after_s with nothing but pongs
        assert feeding.feed.source == "first"
        assert (feeding.feed.source_failures, feeding.feed.stale_count, feeding.feed.dead_count) == (0, 0, 0)
        assert len(two.tried) <= 3
        one.say(trade(2))
        feeding.until(lambda: feeding.ids() == [1, 2])
        assert feeding.gaps("stale") == feeding.gaps("down") == []


@pytest.mark.holds("FAILBACK")
def test_a_better_source_is_gone_back_to_once_it_has_been_useful(one: Talker, two: Talker) -> None:
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair, failback_after_s=0.8) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.open[0].close()
        feeding.leads("second")
        number = 100

        def market() -> bool:
            nonlocal number
            number += 1
            two.say(trade(number))
            one.say(trade(number + 1000))
            return feeding.feed.source == "first"

        feeding.until(market, "the way back")
        feeding.until(lambda: not two.open, "the second one's end")
        assert feeding.feed.moves == 1
        assert feeding.feed.source_failures == 1
        assert len(one.tried) == 2
        assert one.tried[1] - one.tried[0] >= 0.2  # not at once
        # Make before break: the first's trades begin where the second's end.
        order = [tick.source for tick in feeding.ticks]
        assert order == sorted(order, key=lambda name: name == "first")
        ids = feeding.ids("first")
        assert ids == list(range(int(ids[0] or 0), int(ids[0] or 0) + len(ids)))
        assert feeding.ids("second")[-1] in (int(ids[0] or 0) - 1000, int(ids[0] or 0) - 1001)
        assert {gap.source for gap in feeding.gaps("down")} == {"first"}
