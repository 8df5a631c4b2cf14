"""The feed on real sockets: who leads, who stands by, what is taken over, what is moved."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trustme

from hybrid_engine.ingest import choice, connection, feed, link, patience, sequence
from hybrid_engine.sources import Source
from tests.support.feeding import Feeding, source
from tests.support.talker import Talker, trade

NOISE = '{"e":"24hrTicker"}'
SHUTDOWN = json.dumps({"e": "serverShutdown", "E": 1_770_123_456_789})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "GRACE_S", 0.1)
    monkeypatch.setattr(choice, "SLOW_CONNECT_S", 15.0)  # on a busy machine the best one leads first all the same
    monkeypatch.setattr(link, "OVERLAP_S", 0.1)
    monkeypatch.setattr(feed, "TEND_S", 0.02)


@pytest.fixture
def one() -> Iterator[Talker]:
    with Talker() as talker:
        yield talker


@pytest.fixture
def two() -> Iterator[Talker]:
    with Talker() as talker:
        yield talker


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
        assert feeding.door.snapshot().received == 4
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


def test_an_end_that_comes_before_the_new_connection_is_a_failure_that_this_one_mends(one: Talker) -> None:
    with Feeding(source("first", one, "BTC/USD")) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.slow_s = 0.5
        one.say(trade(1), SHUTDOWN)
        feeding.until(lambda: len(one.tried) == 2)
        one.peers[0].close()
        feeding.until(lambda: feeding.feed.source_failures == 1)
        feeding.until(lambda: len(one.peers) == 2)
        one.peers[1].say(trade(2))
        feeding.until(lambda: feeding.ids() == [1, 2])
        assert len(one.tried) == 2


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
        assert abs(stale.from_ms - first_tick.received_ms) <= 20
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


@pytest.mark.holds("MOVES")
@pytest.mark.parametrize("why", ["told", "lifetime"])
def test_a_planned_move_loses_nothing_and_is_no_failure(one: Talker, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "lifetime":
        monkeypatch.setattr(link, "MOVE_AFTER", (1e-5, 1e-5))  # of 24 h: 0.9 s
    with Feeding(source("first", one, "BTC/USD")) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        number = 0

        def market() -> bool:
            nonlocal number
            number += 1
            one.say(trade(number))  # both connections hear the same market
            return feeding.feed.moves == 1

        market()
        if why == "told":
            one.say(SHUTDOWN)
        feeding.until(market, "the move")
        feeding.until(lambda: not one.peers[0].open)
        market()
        feeding.until(lambda: number in feeding.ids())
        assert feeding.ids() == list(range(1, number + 1))
        books = feeding.door.snapshot()
        assert (books.duplicate, books.missed, feeding.feed.source_failures) == (0, 0, 0)
        assert feeding.gaps("down") == []
        assert len(one.tried) == 2
        one.say(SHUTDOWN)
        feeding.rest(0.3)
        assert len(one.tried) == 2  # one that is told so again and again makes no storm


def test_an_old_connection_that_ends_in_the_middle_of_a_move_is_no_failure(
    one: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "OVERLAP_S", 60.0)
    with Feeding(source("first", one, "BTC/USD")) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1), SHUTDOWN)
        feeding.until(lambda: len(one.open) == 2)
        one.say(trade(2))
        feeding.until(lambda: 2 in feeding.ids())
        one.peers[1].say(trade(3))
        one.peers[0].close()
        feeding.until(lambda: feeding.feed.moves == 1)
        one.say(trade(4))
        feeding.until(lambda: 4 in feeding.ids())
        assert feeding.ids() == [1, 2, 3, 4]
        assert feeding.feed.source_failures == 0


def test_a_standby_that_moves_keeps_what_it_heard(one: Talker, two: Talker) -> None:
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair, standby="hot") as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1))
        feeding.until(lambda: feeding.ids() == [1] and two.open)
        two.say(trade(101), trade(102), SHUTDOWN)
        feeding.until(lambda: len(two.peers) == 2)
        two.say(trade(103))
        feeding.until(lambda: feeding.feed.moves == 1)
        two.say(trade(104))
        feeding.until(lambda: len(two.open) == 1)
        feeding.rest(0.1)
        assert feeding.ids() == [1]
        one.open[0].close()
        feeding.leads("second")
        feeding.until(lambda: len(feeding.ids("second")) == 4)
        assert feeding.ids("second") == [101, 102, 103, 104]


@pytest.mark.holds("PACE")
def test_a_server_that_accepts_and_closes_sees_so_many_attempts_a_minute_and_no_more(
    one: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.001)  # jitter at its unluckiest: no pause at all
    monkeypatch.setattr(patience, "MINUTE_S", 2.0)
    one.hang_up = True
    with Feeding(source("first", one, "BTC/USD")) as feeding:
        feeding.until(lambda: len(one.tried) == 3 * patience.ATTEMPTS_A_MINUTE)
        for earlier, later in zip(one.tried, one.tried[patience.ATTEMPTS_A_MINUTE :], strict=False):
            assert later - earlier >= 1.9
        assert feeding.feed.source_failures >= 3 * patience.ATTEMPTS_A_MINUTE - 1


def test_a_refusal_is_not_asked_again_soon_and_the_next_source_is(one: Talker, two: Talker) -> None:
    one.answer = b"HTTP/1.1 451 No\r\n\r\n"
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair, failback_after_s=0.1) as feeding:
        feeding.leads("second")
        feeding.until(lambda: two.open)
        for number in range(20):
            two.say(trade(number))
            feeding.rest(0.05)
        assert len(one.tried) == 1


@pytest.mark.holds("MISSED")
def test_what_the_numbers_leave_out_is_missed_and_a_reconnect_tells_it_exactly(
    one: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "LATE_S", 0.0)
    with Feeding(source("first", one, "BTC/USD")) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(100), trade(101), trade(104))
        feeding.until(lambda: feeding.door.snapshot().missed == 2)
        one.peers[0].close()
        feeding.until(lambda: len(one.peers) == 2)
        one.say(trade(103), trade(104), trade(110), trade(111))  # repeats what it has sent, one of it too late
        feeding.until(lambda: 111 in feeding.ids())
        feeding.until(lambda: feeding.door.snapshot().missed == 2 + 5)
        assert feeding.door.snapshot().duplicate == 1
        assert feeding.ids() == [100, 101, 104, 103, 110, 111]
        one.peers[1].close()
        feeding.until(lambda: len(one.peers) == 3)
        one.say(trade(120))
        feeding.until(lambda: feeding.door.snapshot().missed == 2 + 5 + 8)
        feeding.door.close_gaps(feeding.ticks[-1].received_ms)
        assert [(gap.symbol, gap.missed) for gap in feeding.gaps("missed")] == [("BTC/USD", 2 + 5 + 8)]


@pytest.mark.holds("MISSED")
def test_what_comes_late_is_not_missed(one: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another message, after its turn; and a heartbeat that overtakes the trades that it tells of."""
    monkeypatch.setattr(sequence, "LATE_S", 3600.0)  # however slow the machine is: the stop books the rest

    def match(number: int, kind: str = "match", key: str = "trade_id") -> str:
        body = {"type": kind, "product_id": "BTC-USD", key: number, "price": "10.5", "size": "1"}
        return json.dumps({**body, "time": "2026-01-02T03:04:05Z"})

    with Feeding(Source("first", one.url(), "coinbase", ("BTC/USD",), 1, "")) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(match(1), match(5))
        feeding.until(lambda: 5 in feeding.ids())
        one.say(match(4), match(2), match(3))
        feeding.until(lambda: 3 in feeding.ids())
        one.say(match(9, "heartbeat", "last_trade_id"), match(6), match(8), match(9))
        one.say(match(12, "heartbeat", "last_trade_id"))
        one.say(match(13))
        feeding.until(lambda: 13 in feeding.ids())
        assert feeding.ids() == [1, 5, 4, 2, 3, 6, 8, 9, 13]
        assert feeding.door.snapshot().missed == 0
    assert feeding.door.snapshot().missed == 4  # 7, 10, 11 and 12 never came


@pytest.mark.holds("MISSED")
def test_a_stop_books_what_did_not_come_by_then(one: Talker) -> None:
    with Feeding(source("first", one, "BTC/USD")) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1), trade(4))
        feeding.until(lambda: 4 in feeding.ids())
    assert feeding.door.snapshot().missed == 2


@pytest.mark.holds("MISSED")
def test_what_another_source_covered_is_not_missed(one: Talker, two: Talker) -> None:
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair, failback_after_s=0.6) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1), trade(2))
        feeding.until(lambda: 2 in feeding.ids())
        one.open[0].close()
        feeding.leads("second")
        number = 100

        def market() -> bool:
            nonlocal number
            number += 1
            two.say(trade(number))
            one.say(trade(number))
            return feeding.feed.source == "first"

        feeding.until(market, "the way back")
        market()
        feeding.until(lambda: number in feeding.ids("first"))
        assert feeding.door.snapshot().missed == 0
        one.say(trade(number + 4))
        feeding.until(lambda: feeding.door.snapshot().missed == 3)


@pytest.mark.holds("MISSED")
def test_who_leads_again_after_another_did_has_missed_nothing(one: Talker, two: Talker) -> None:
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1), trade(2))
        feeding.until(lambda: 2 in feeding.ids())
        one.open[0].close()
        feeding.leads("second")
        feeding.until(lambda: two.open)
        two.say(trade(100))
        feeding.until(lambda: 100 in feeding.ids() and feeding.ingest._overview.last_heard_from(second(feeding), ""))
        two.stop()
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(50), trade(52))
        feeding.until(lambda: feeding.door.snapshot().missed)
        assert feeding.door.snapshot().missed == 1


def second(feeding: Feeding) -> link.Link:
    return feeding.ingest._links["second"]


@pytest.mark.holds("MISSED")
def test_numbers_of_a_standby_are_followed_and_not_counted(one: Talker, two: Talker) -> None:
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair, standby="hot") as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1))
        feeding.until(lambda: feeding.ids() == [1] and two.open)
        two.say(trade(101), trade(105))
        feeding.until(lambda: second(feeding).standing.traded_at)
        one.open[0].close()
        feeding.leads("second")
        two.say(trade(108))
        feeding.until(lambda: feeding.door.snapshot().missed)
        assert feeding.door.snapshot().missed == 2


def test_a_source_that_takes_its_time_to_connect_does_not_hold_up_the_next(
    two: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "SLOW_CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and never answers the request
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/ws/btcusdt@trade"
        hangs = Source("hangs", url, "binance", ("BTC/USD",), 1, "")
        with Feeding(hangs, source("second", two, "BTC/USD", priority=2)) as feeding:
            began = time.monotonic()
            feeding.leads("second")
            assert time.monotonic() - began < 5  # its own time-out comes after 8


def test_a_hand_over_larger_than_a_read_is_whole_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies decrypted in the TLS layer is seen by no selector."""
    monkeypatch.setattr(connection, "READ_BYTES", 5000)  # less than a record of TLS holds
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Talker(tls=context) as talker:
        url = talker.url().replace("ws://127.0.0.1", "wss://localhost")
        src = Source("tls", url, "binance", ("BTC/USD",), 1, str(tmp_path / "ca.pem"))
        with Feeding(src, dead_after_s=3600.0) as feeding:  # no pong is to wake it
            feeding.leads("tls")
            feeding.until(lambda: talker.open)
            for sent in (3000, 6000):
                talker.say(*(trade(number) for number in range(sent - 3000, sent)))
                feeding.until(partial(lambda wanted: len(feeding.ids()) == wanted, sent))
            assert feeding.ids() == list(range(6000))


@pytest.mark.holds("QUIET")
def test_a_connection_that_is_not_dead_yet_is_no_reason_to_give_up(one: Talker) -> None:
    one.mute = True
    with Feeding(source("first", one, "BTC/USD"), network_deadline_s=0.4) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        feeding.rest(1.0)
        assert feeding.ingest.failure is None
        assert feeding.ingest.is_alive()
