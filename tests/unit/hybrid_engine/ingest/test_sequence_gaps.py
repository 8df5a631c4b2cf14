"""What an exchange's own numbers leave out, on real sockets."""

from __future__ import annotations

import json

import pytest

from hybrid_engine.config.sources import Source
from hybrid_engine.ingest import sequence_gaps, source_connection
from tests.support.feeding import Feeding, source
from tests.support.talker import Talker, trade

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.holds("MISSED")
def test_what_the_numbers_leave_out_is_missed_and_a_reconnect_tells_it_exactly(
    one: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence_gaps, "LATE_S", 0.0)
    with Feeding(source("first", one, "BTC/USD")) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(100), trade(101), trade(104))
        feeding.until(lambda: feeding.admission.snapshot().missed == 2)
        one.peers[0].close()
        feeding.until(lambda: len(one.peers) == 2)
        one.say(trade(103), trade(104), trade(110), trade(111))  # repeats what it has sent, one of it too late
        feeding.until(lambda: 111 in feeding.ids())
        feeding.until(lambda: feeding.admission.snapshot().missed == 2 + 5)
        assert feeding.admission.snapshot().duplicate == 1
        assert feeding.ids() == [100, 101, 104, 103, 110, 111]
        one.peers[1].close()
        feeding.until(lambda: len(one.peers) == 3)
        one.say(trade(120))
        feeding.until(lambda: feeding.admission.snapshot().missed == 2 + 5 + 8)
        feeding.admission.close_gaps(feeding.ticks[-1].received_ms)
        assert [(gap.symbol, gap.missed) for gap in feeding.gaps("missed")] == [("BTC/USD", 2 + 5 + 8)]


@pytest.mark.holds("MISSED")
def test_what_comes_late_is_not_missed(one: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another message, after its turn; and a heartbeat that overtakes the trades that it tells of."""
    monkeypatch.setattr(sequence_gaps, "LATE_S", 3600.0)  # however slow the machine is: the stop books the rest

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
        assert feeding.admission.snapshot().missed == 0
    assert feeding.admission.snapshot().missed == 4  # 7, 10, 11 and 12 never came


@pytest.mark.holds("MISSED")
def test_a_stop_books_what_did_not_come_by_then(one: Talker) -> None:
    with Feeding(source("first", one, "BTC/USD")) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1), trade(4))
        feeding.until(lambda: 4 in feeding.ids())
    assert feeding.admission.snapshot().missed == 2


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
        assert feeding.admission.snapshot().missed == 0
        one.say(trade(number + 4))
        feeding.until(lambda: feeding.admission.snapshot().missed == 3)


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
        feeding.until(lambda: feeding.admission.snapshot().missed)
        assert feeding.admission.snapshot().missed == 1


def second(feeding: Feeding) -> source_connection.SourceConnection:
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
        feeding.until(lambda: feeding.admission.snapshot().missed)
        assert feeding.admission.snapshot().missed == 2
