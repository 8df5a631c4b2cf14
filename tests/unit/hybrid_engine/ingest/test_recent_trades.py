"""Two sources that serve the same exchange: a failover stores each trade once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.ingest import recent_trades
from hybrid_engine.ingest.recent_trades import MAX_PER_SYMBOL, MAX_TOTAL, DuplicateWindow, RecentTrades
from tests.support.feed_harness import FeedHarness, source
from tests.support.scripted_exchange import ScriptedExchange, trade


@pytest.fixture
def mirrors(
    fast_feed: None, primary: ScriptedExchange, secondary: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[FeedHarness, ScriptedExchange, ScriptedExchange]]:
    """The primary is active, the secondary stands by; both have the same trades."""
    monkeypatch.setattr(recent_trades, "DUPLICATE_WINDOW_S", 3600.0)
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, standby="hot") as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        primary.send(trade(1))
        harness.wait_until(lambda: harness.ids() == [1] and secondary.open_connections)
        yield harness, primary, secondary


def wait_standby_trades(harness: FeedHarness, expected: int) -> None:
    def count() -> int:
        session = harness.source("secondary").session
        return 0 if session is None else len(session._standby_trades.get("BTC/USD", ()))

    harness.wait_until(lambda: count() == expected)


def test_trades_repeated_by_the_later_source_are_duplicates(
    mirrors: tuple[FeedHarness, ScriptedExchange, ScriptedExchange],
) -> None:
    harness, primary, secondary = mirrors
    secondary.send(trade(1))
    wait_standby_trades(harness, 1)
    primary.send(trade(2), trade(3))
    harness.wait_until(lambda: harness.ids() == [1, 2, 3])
    secondary.send(trade(2))  # after the primary's last trade: by its time it would be new
    wait_standby_trades(harness, 2)
    primary.open_connections[0].close()
    harness.wait_active("secondary")
    secondary.send(trade(3), trade(4), trade(None), trade(None))
    harness.wait_until(lambda: len(harness.ids()) == 6)
    assert harness.ids() == [1, 2, 3, 4, None, None]  # trades without an id are never compared
    counters = harness.admission.snapshot()
    assert (counters.received, counters.duplicate) == (7, 1)
    assert [(gap.source, gap.symbol, gap.missed) for gap in harness.gaps("duplicate")] == [("secondary", "BTC/USD", 1)]


def test_trades_of_a_source_that_is_ahead_are_kept(
    mirrors: tuple[FeedHarness, ScriptedExchange, ScriptedExchange],
) -> None:
    harness, primary, secondary = mirrors
    secondary.send(trade(1), trade(2), trade(3), trade(4))
    wait_standby_trades(harness, 4)
    primary.send(trade(2))  # after the secondary sent 3 and 4: by their time those would be old
    harness.wait_until(lambda: harness.ids() == [1, 2])
    primary.open_connections[0].close()
    harness.wait_active("secondary")
    secondary.send(trade(5))
    harness.wait_until(lambda: 5 in harness.ids())
    assert harness.ids() == [1, 2, 3, 4, 5]
    assert harness.ids("secondary") == [3, 4, 5]
    assert harness.admission.snapshot().duplicate == 0


def test_same_id_with_other_price_is_no_duplicate(
    mirrors: tuple[FeedHarness, ScriptedExchange, ScriptedExchange],
) -> None:
    """Two exchanges may use the same ids."""
    harness, primary, secondary = mirrors
    primary.open_connections[0].close()
    harness.wait_active("secondary")
    secondary.send(trade(1).replace("10.5", "10.6"), trade(2))
    harness.wait_until(lambda: harness.ids() == [1, 1, 2])
    assert harness.admission.snapshot().duplicate == 0


@pytest.mark.holds("MEMORY")
def test_remembered_trades_are_bounded() -> None:
    symbols = [f"S{number}" for number in range(100)]
    recent = RecentTrades(symbols)
    for number in range(2 * MAX_PER_SYMBOL):
        recent.add("one", [MarketTrade(symbol, 1.0, 1.0, number, 1) for symbol in symbols])
    assert sum(len(recent.from_others("two", symbol)) for symbol in symbols) <= MAX_TOTAL
    assert {item.symbol for item in recent.from_others("two", "S7")} == {"S7"}
    assert recent.from_others("one", "S7") == set()
    unshared = RecentTrades([])  # no symbol that several sources carry
    unshared.add("one", [MarketTrade("S1", 1.0, 1.0, 1, 1)])
    assert unshared.from_others("two", "S1") == set()


@pytest.mark.holds("STANDBY", "MOVES")
def test_trades_are_known_for_five_seconds() -> None:
    window = DuplicateWindow()
    one, two = (MarketTrade("BTC/USD", 1.0, 1.0, number, 1) for number in (1, 2))
    window.extend([one], 100.0)
    assert window.split([one, two], 104.9) == ([two], [one])
    assert window.split([one], 105.1) == ([], [one])  # those that came together are compared together
    assert window.split([one], 105.2) == ([one], [])
