"""An exchange that invents symbols without end: what a source keeps of names and numbers stays bounded."""

from __future__ import annotations

import pytest

from hybrid_engine.config.sources import Source
from hybrid_engine.domain.deduplication import MAX_STRANGERS, MAX_SYMBOLS
from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import Mark
from hybrid_engine.ingest.sequence_gaps import SequenceTracker
from hybrid_engine.ingest.symbol_names import SymbolNames
from hybrid_engine.stages.admission import AdmissionQueue
from tests.support.pipeline import nothing


@pytest.fixture
def names() -> SymbolNames:
    symbols = ("BTC/USD", "ETH/USD")
    return SymbolNames(Source("one", "ws://x/stream", "binance", symbols, 1, ""), "BTC/USD")


@pytest.mark.holds("MEMORY")
def test_strangers_beyond_some_have_no_name_and_leave_room_for_those_it_was_configured_for(
    names: SymbolNames, capsys: pytest.CaptureFixture[str]
) -> None:
    called = [names.of(f"MADEUP{number}") for number in range(10_000)]
    assert called[:MAX_STRANGERS] == [f"MADEUP{number}" for number in range(MAX_STRANGERS)]
    assert set(called[MAX_STRANGERS:]) == {""}
    assert names.of("MADEUP3") == "MADEUP3"
    assert (names.of("BTCUSD"), names.of("ETHUSD")) == ("BTC/USD", "ETH/USD")
    assert len(names.known) <= MAX_STRANGERS + 3
    assert len(capsys.readouterr().out.splitlines()) == MAX_STRANGERS  # said once of each, and of no more


@pytest.mark.holds("MEMORY")
def test_what_the_url_names_is_no_stranger_however_much_that_is() -> None:
    asked = [f"COIN{number}" for number in range(MAX_SYMBOLS - MAX_STRANGERS)]
    url = "ws://x/stream?streams=" + "/".join(f"{name.lower()}@trade" for name in asked)
    names = SymbolNames(Source("one", url, "binance", (), 1, ""), "BTC/USD")
    assert [names.of(name) for name in asked] == asked
    called = [names.of(f"MADEUP{number}") for number in range(2 * MAX_STRANGERS)]
    assert called.count("") == MAX_STRANGERS


@pytest.mark.holds("MEMORY")
def test_a_name_that_is_spelled_in_many_ways_takes_no_more_room(names: SymbolNames) -> None:
    for number in range(10 * MAX_SYMBOLS):
        assert names.of(f"BT{number:b}CUSD".translate({ord("0"): "-", ord("1"): "/"})) == "BTC/USD"
    assert len(names.known) <= 2 * MAX_SYMBOLS


def test_a_trade_without_a_name_is_rejected() -> None:
    admission = AdmissionQueue(8, sample_every=1, admit_wait_ms=0)
    admission.offer("one", [MarketTrade("", 1.0, 1.0, 1, 1), MarketTrade("X", 1.0, 1.0, 1, 1)], 5, nothing)
    books, gaps = admission.ledger()
    assert (books.received, books.rejected, books.waiting) == (2, 1, 1)
    assert [gap[1:4] for gap in gaps] == [("rejected", "one", "")]


@pytest.mark.holds("MEMORY")
def test_numbers_are_followed_of_so_many_symbols() -> None:
    numbers = SequenceTracker()
    assert not numbers.observe([Mark("X", 1, 1, True)])
    for number in range(5000):
        numbers.observe([Mark(f"MADEUP{number}", 1, 1, True)])
    assert max(len(due) for due in numbers._due.values()) <= MAX_SYMBOLS
    assert [told[:3] for told in numbers.observe([Mark("X", 4, 4, True)])] == [("X", 2, 3)]
