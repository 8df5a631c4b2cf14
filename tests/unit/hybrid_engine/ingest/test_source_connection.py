"""A connection that is replaced before it ends, on real sockets."""

from __future__ import annotations

import json

import pytest

from hybrid_engine.ingest import source_connection
from tests.support.feeding import Feeding, source
from tests.support.talker import Talker, trade

pytestmark = pytest.mark.usefixtures("quick")
SHUTDOWN = json.dumps({"e": "serverShutdown", "E": 1_770_123_456_789})


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


@pytest.mark.holds("MOVES")
@pytest.mark.parametrize("why", ["told", "lifetime"])
def test_a_planned_move_loses_nothing_and_is_no_failure(one: Talker, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "lifetime":
        monkeypatch.setattr(source_connection, "MOVE_AFTER", (1e-5, 1e-5))  # of 24 h: 0.9 s
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
        books = feeding.admission.snapshot()
        assert (books.duplicate, books.missed, feeding.feed.source_failures) == (0, 0, 0)
        assert feeding.gaps("down") == []
        assert len(one.tried) == 2
        one.say(SHUTDOWN)
        feeding.rest(0.3)
        assert len(one.tried) == 2  # one that is told so again and again makes no storm


def test_an_old_connection_that_ends_in_the_middle_of_a_move_is_no_failure(
    one: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_connection, "OVERLAP_S", 60.0)
    with Feeding(source("first", one, "BTC/USD")) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1), SHUTDOWN)
        feeding.until(lambda: feeding.ingest._links["first"].successor, "the new connection, beside the old one")
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
