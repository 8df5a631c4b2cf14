"""Names of symbols: an exchange that sends ever new symbols does not exhaust the memory."""

from __future__ import annotations

import json
from typing import cast

import pytest

from hybrid_engine.config.sources import Source
from hybrid_engine.domain.deduplication import MAX_SYMBOLS, MAX_UNKNOWN_SYMBOLS
from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import Mark
from hybrid_engine.ingest.connection import Connection
from hybrid_engine.ingest.sequence_gaps import SequenceTracker
from hybrid_engine.ingest.session import Session, SymbolNames
from hybrid_engine.stages.admission import AdmissionQueue
from tests.support.pipeline import nothing


class FakeConnection:
    """A connection of which nothing but its number is asked."""

    def fileno(self) -> int:
        return 0


@pytest.fixture
def names() -> SymbolNames:
    symbols = ("BTC/USD", "ETH/USD")
    return SymbolNames(Source("one", "ws://x/stream", "binance", symbols, 1, ""), "BTC/USD")


@pytest.mark.holds("MEMORY")
def test_unknown_symbols_are_limited(names: SymbolNames, capsys: pytest.CaptureFixture[str]) -> None:
    result = [names.local_name(f"MADEUP{number}") for number in range(10_000)]
    assert result[:MAX_UNKNOWN_SYMBOLS] == [f"MADEUP{number}" for number in range(MAX_UNKNOWN_SYMBOLS)]
    assert set(result[MAX_UNKNOWN_SYMBOLS:]) == {""}
    assert names.local_name("MADEUP3") == "MADEUP3"
    assert (names.local_name("BTCUSD"), names.local_name("ETHUSD")) == ("BTC/USD", "ETH/USD")
    assert len(names.cache) <= MAX_UNKNOWN_SYMBOLS + 3
    assert len(capsys.readouterr().out.splitlines()) == MAX_UNKNOWN_SYMBOLS  # one warning for each


@pytest.mark.holds("MEMORY")
def test_symbols_in_the_url_are_known() -> None:
    symbols = [f"COIN{number}" for number in range(MAX_SYMBOLS - MAX_UNKNOWN_SYMBOLS)]
    url = "ws://x/stream?streams=" + "/".join(f"{name.lower()}@trade" for name in symbols)
    names = SymbolNames(Source("one", url, "binance", (), 1, ""), "BTC/USD")
    assert [names.local_name(name) for name in symbols] == symbols
    result = [names.local_name(f"MADEUP{number}") for number in range(2 * MAX_UNKNOWN_SYMBOLS)]
    assert result.count("") == MAX_UNKNOWN_SYMBOLS


@pytest.mark.holds("MEMORY")
def test_spellings_of_one_symbol_are_limited(names: SymbolNames) -> None:
    for number in range(10 * MAX_SYMBOLS):
        assert names.local_name(f"BT{number:b}CUSD".translate({ord("0"): "-", ord("1"): "/"})) == "BTC/USD"
    assert len(names.cache) <= 2 * MAX_SYMBOLS


@pytest.mark.holds("BYTES")
@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_every_trade_of_a_message_is_taken(count: int) -> None:
    source = Source("one", "ws://x/v2", "kraken", ("BTC/USD",), 1, "")
    session = Session(source, SymbolNames(source, "BTC/USD"), cast(Connection, FakeConnection()), ["BTC/USD"], 0.0)
    trade = {"symbol": "BTC/USD", "side": "buy", "price": 1.5, "qty": 2.0, "ord_type": "limit"}
    at = "2026-01-02T03:04:05.006000Z"
    data = [{**trade, "trade_id": number, "timestamp": at} for number in range(1, count + 1)]
    message = json.dumps({"channel": "trade", "type": "update", "data": data}).encode()
    batch = session.parse([message], {"BTC/USD"}, 0.0, 5, 5)
    assert [one.exchange_id for one in batch.trades] == list(range(1, count + 1))


def test_trade_without_symbol_is_rejected() -> None:
    admission = AdmissionQueue(8, sample_every=1, admit_wait_ms=0)
    admission.offer_trades("one", [MarketTrade("", 1.0, 1.0, 1, 1), MarketTrade("X", 1.0, 1.0, 1, 1)], 5, nothing)
    counters, gaps = admission.take_changes()
    assert (counters.received, counters.rejected, counters.waiting) == (2, 1, 1)
    assert [gap[1:4] for gap in gaps] == [("rejected", "one", "")]


@pytest.mark.holds("MEMORY")
def test_tracked_sequence_numbers_are_limited() -> None:
    tracker = SequenceTracker()
    assert not tracker.observe([Mark("X", 1, 1, True)])
    for number in range(5000):
        tracker.observe([Mark(f"MADEUP{number}", 1, 1, True)])
    assert max(len(due) for due in tracker._due.values()) <= MAX_SYMBOLS
    assert [event[:3] for event in tracker.observe([Mark("X", 4, 4, True)])] == [("X", 2, 3)]
