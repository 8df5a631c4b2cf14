"""What a connection was asked for, and when that counts as answered."""

from __future__ import annotations

import time

import pytest

from hybrid_engine.config.sources import Source
from hybrid_engine.exchanges import EXCHANGES, Refusal
from hybrid_engine.ingest import source_state
from hybrid_engine.ingest.failure import SourceFailed
from hybrid_engine.ingest.subscription import STANDING_S, Subscription
from tests.support.feed_harness import FeedHarness
from tests.support.talking_exchange import Line, exchange, kraken_no, kraken_trade, kraken_yes
from tests.support.world import make_source

NAMES = ["BTC/USD", "FOO/USD", "FOO/USDT"]


@pytest.mark.parametrize(
    ("refusal", "meant"),
    [
        (Refusal("FOO/USD", "no"), ["FOO/USD"]),
        (Refusal("foousd", "no"), ["FOO/USD"]),
        (Refusal("", "FOO-USD is not a valid product"), ["FOO/USD"]),
        (Refusal("", "Invalid symbol: foousdt@trade"), ["FOO/USDT"]),
        (Refusal("", "Currency pairs not supported: FOO/USD, FOO/USDT"), ["FOO/USD", "FOO/USDT"]),
        (Refusal("", "too many requests"), []),
        (Refusal("", "the USD market is closed"), []),
        (Refusal("X/Y", "no"), []),
    ],
)
def test_refusal_is_about_the_symbols_that_it_names(refusal: Refusal, meant: list[str]) -> None:
    subscription = Subscription(EXCHANGES["kraken"], NAMES, 0.0)
    assert subscription.meant_by(refusal, NAMES) == meant


def test_refusal_of_the_only_symbol_need_not_name_it() -> None:
    subscription = Subscription(EXCHANGES["kraken"], ["BTC/USD"], 0.0)
    assert subscription.meant_by(Refusal("", "Malformed request"), ["BTC/USD"]) == ["BTC/USD"]


def test_acknowledging_exchange_is_not_in_use_for_standing() -> None:
    subscription = Subscription(EXCHANGES["kraken"], ["BTC/USD"], 0.0)
    subscription.confirm_standing(10 * STANDING_S)
    assert not subscription.in_use
    assert subscription.overdue(0.9, 1.0) == set()
    assert subscription.overdue(1.0, 1.0) == {"BTC/USD"}
    subscription.confirm({"BTC/USD"})
    assert subscription.in_use
    assert subscription.overdue(9.0, 1.0) == set()


def test_exchange_that_acknowledges_nothing_is_in_use_once_it_has_stood() -> None:
    subscription = Subscription(EXCHANGES["binance"], ["BTCUSDT"], 0.0)
    subscription.confirm_standing(STANDING_S - 0.1)
    assert not subscription.in_use
    subscription.note_unknown(b"[1]", 1.0)
    subscription.confirm_standing(2 * STANDING_S)
    assert not subscription.in_use
    subscription.note_known()
    subscription.confirm_standing(2 * STANDING_S)
    assert subscription.in_use


def test_frames_that_nobody_understands_are_told_once() -> None:
    subscription = Subscription(EXCHANGES["binance"], ["BTCUSDT"], 0.0)
    subscription.note_unknown(b"[1]", 1.0)
    subscription.note_unknown(b"[2]", 2.0)
    assert not subscription.nothing_understood(1.9, 1.0)
    assert subscription.nothing_understood(2.0, 1.0)
    assert not subscription.nothing_understood(3.0, 1.0)
    assert (subscription.unknown_frames, subscription.unknown_frame) == (2, b"[2]")


@pytest.mark.holds("USE")
def test_refused_symbol_is_left_out_of_the_next_connection() -> None:
    source = make_source("k", 1, ("BTC/USD", "FOO/USD"))
    source.refuse("FOO/USD", 100.0)
    assert source.symbols_to_ask(101.0) == ["BTC/USD"]
    assert source.symbols_to_ask(100.0 + source_state.ASK_AGAIN_S) == ["BTC/USD", "FOO/USD"]
    assert source.symbols_to_ask(101.0 + source_state.ASK_AGAIN_S) == ["BTC/USD"]


def test_source_that_was_refused_all_asks_for_all_again() -> None:
    source = make_source("k", 1, ("BTC/USD",))
    source.refuse("BTC/USD", 100.0)
    source.fail(100.0, SourceFailed("refused"), 60.0)
    assert source.symbols_to_ask(101.0) == ["BTC/USD"]


@pytest.mark.holds("USE")
def test_refused_symbol_is_asked_for_again_in_time_and_its_gap_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_state, "ASK_AGAIN_S", 0.7)
    asked: list[tuple[float, list[str]]] = []

    def talk(line: Line) -> None:
        while len(asked) < 3:
            symbols = line.hear()["params"]["symbol"]
            asked.append((time.monotonic(), symbols))
            line.say(kraken_yes("BTC/USD"), kraken_trade("BTC/USD"))
            line.say(kraken_no("FOO/USD") if len(asked) < 3 else kraken_yes("FOO/USD"))
        line.trade_on("BTC/USD", "FOO/USD")

    with exchange(talk) as kraken:
        source = Source("k", kraken.url("/v2"), "kraken", ("BTC/USD", "FOO/USD"), 1, "")
        with FeedHarness(source) as harness:
            harness.wait_until(lambda: harness.gaps("down"), "the gap of the refused symbol")
            harness.wait_until(lambda: any(tick.symbol == "FOO/USD" for tick in harness.ticks), "its first trade")
            (gap,) = harness.gaps("down")
            assert gap.symbol == "FOO/USD"
            assert gap.to_ms is not None
        assert len(kraken.requests) == 1
    assert [symbols for _, symbols in asked] == [["BTC/USD", "FOO/USD"], ["FOO/USD"], ["FOO/USD"]]
    assert min(asked[n + 1][0] - asked[n][0] for n in range(2)) >= 0.6
