"""Two sources that are two ways to one exchange: at a change of the lead each trade is stored, and stored once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.ingest import source_connection
from hybrid_engine.ingest.recent_trades import MOST, MOST_IN_ALL, RecentTrades
from tests.support.feeding import Feeding, source
from tests.support.talker import Talker, trade


@pytest.fixture
def mirrors(
    quick: None, one: Talker, two: Talker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Feeding, Talker, Talker]]:
    """The first leads, the second stands by."""
    monkeypatch.setattr(source_connection, "ECHO_S", 3600.0)
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair, standby="hot") as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        one.say(trade(1))
        feeding.until(lambda: feeding.ids() == [1] and two.open)
        yield feeding, one, two


def stand_by_heard(feeding: Feeding, count: int) -> None:
    def kept() -> int:
        session = feeding.ingest._links["second"].session
        return 0 if session is None else len(session._kept.get("BTC/USD", ()))

    feeding.until(lambda: kept() == count)


def test_what_the_later_one_brings_again_is_a_duplicate(mirrors: tuple[Feeding, Talker, Talker]) -> None:
    feeding, one, two = mirrors
    two.say(trade(1))
    stand_by_heard(feeding, 1)
    one.say(trade(2), trade(3))
    feeding.until(lambda: feeding.ids() == [1, 2, 3])
    two.say(trade(2))  # after the other's last trade: by its time it would be news
    stand_by_heard(feeding, 2)
    one.open[0].close()
    feeding.leads("second")
    two.say(trade(3), trade(4), trade(None), trade(None))
    feeding.until(lambda: len(feeding.ids()) == 6)
    assert feeding.ids() == [1, 2, 3, 4, None, None]  # without a number nothing is known for the same
    books = feeding.admission.snapshot()
    assert (books.received, books.duplicate) == (7, 1)
    assert [(gap.source, gap.symbol, gap.missed) for gap in feeding.gaps("duplicate")] == [("second", "BTC/USD", 1)]


def test_what_the_earlier_one_brought_before_is_not_lost(mirrors: tuple[Feeding, Talker, Talker]) -> None:
    feeding, one, two = mirrors
    two.say(trade(1), trade(2), trade(3), trade(4))
    stand_by_heard(feeding, 4)
    one.say(trade(2))  # behind what the other one is ahead with: by their time 3 and 4 would be old
    feeding.until(lambda: feeding.ids() == [1, 2])
    one.open[0].close()
    feeding.leads("second")
    two.say(trade(5))
    feeding.until(lambda: 5 in feeding.ids())
    assert feeding.ids() == [1, 2, 3, 4, 5]
    assert feeding.ids("second") == [3, 4, 5]
    assert feeding.admission.snapshot().duplicate == 0


def test_a_number_alone_makes_no_mirror(mirrors: tuple[Feeding, Talker, Talker]) -> None:
    """Another exchange may number its trades alike."""
    feeding, one, two = mirrors
    one.open[0].close()
    feeding.leads("second")
    two.say(trade(1).replace("10.5", "10.6"), trade(2))
    feeding.until(lambda: feeding.ids() == [1, 1, 2])
    assert feeding.admission.snapshot().duplicate == 0


@pytest.mark.holds("MEMORY")
def test_what_is_remembered_of_the_taken_is_bounded_and_nothing_of_what_one_source_has() -> None:
    symbols = [f"S{number}" for number in range(100)]
    taken = RecentTrades(symbols)
    for number in range(2 * MOST):
        taken.add("one", [MarketTrade(symbol, 1.0, 1.0, number, 1) for symbol in symbols])
    assert sum(len(taken.of_others("two", symbol)) for symbol in symbols) <= MOST_IN_ALL
    assert {item.symbol for item in taken.of_others("two", "S7")} == {"S7"}
    assert taken.of_others("one", "S7") == set()
    alone = RecentTrades([])
    alone.add("one", [MarketTrade("S1", 1.0, 1.0, 1, 1)])
    assert alone.of_others("two", "S1") == set()
