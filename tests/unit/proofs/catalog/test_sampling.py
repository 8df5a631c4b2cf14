"""sampling's reloads, gaps and replay: what their figures come to, each wrong in turn."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.catalog._missed import LEFT_OUT, Hole, missed_difference
from proofs.catalog._reload import PERIODS, Reloads, sampled
from proofs.catalog._replay import TRADES, Replay
from proofs.catalog.sampling import TRADES as SENT
from tests.support.judging import DEPLOYED, verdict_of

HOLES = [Hole(1, 1000, 1002), Hole(137, 1300, 1400), Hole(5, 1600, 2100)]


def gap(count: int, from_ms: int, to_ms: int, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "missed",
        "source": "mock",
        "symbol": "BTCUSDT",
        "count": count,
        "from_ms": from_ms,
        "to_ms": to_ms,
        **changes,
    }


GAPS = [gap(1, 1000, 1002), gap(137, 1300, 1400), gap(5, 2099, 2100)]


def test_gaps_of_all_holes_pass() -> None:
    assert missed_difference([*GAPS, gap(7, 0, 9, kind="down")], HOLES) == ""
    assert missed_difference([gap(138, 1000, 1400), GAPS[2]], HOLES) == ""  # both between two heartbeats


def test_gap_of_trades_that_came_at_once_begins_before_them() -> None:
    assert missed_difference([gap(1, 960, 1000)], [Hole(1, 1000, 1000)]) == ""
    assert missed_difference([gap(1, 1001, 1000)], [Hole(1, 1000, 1000)]).startswith("of 1: from 1001")


@pytest.mark.parametrize(
    "gaps",
    [
        GAPS[:2],
        GAPS[1:],
        [*GAPS, gap(1, 2200, 2201)],
        [gap(2, 1000, 1002), *GAPS[1:]],
        [GAPS[0], gap(100, 1300, 1400), GAPS[2]],
        [*GAPS[:2], gap(5, 2100, 2100)],
        [*GAPS[:2], gap(5, 1599, 2100)],
        [*GAPS[:2], gap(5, 1600, 2600)],
        [*GAPS[:2], gap(5, 1600, 2100, source="other")],
        [*GAPS[:2], gap(5, 1600, 2100, symbol="BTC/USD")],
        [],
    ],
    ids=[
        "one without",
        "the first without",
        "one more",
        "counts more",
        "counts less",
        "no length",
        "too early",
        "until a heartbeat",
        "another source",
        "another symbol",
        "none",
    ],
)
def test_other_gaps_are_found(gaps: list[dict[str, Any]]) -> None:
    assert missed_difference(gaps, HOLES)


def test_numbers_are_left_out_one_many_and_across_the_reconnect() -> None:
    assert 1 in LEFT_OUT.values()
    assert max(LEFT_OUT.values()) > 100
    assert 1007 in LEFT_OUT
    assert max(LEFT_OUT) == SENT - 1


@given(st.integers(1, 300), st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=4))
def test_each_period_counts_from_its_reload(sent: int, reloads: list[tuple[int, int]]) -> None:
    took = sorted((min(at, sent), every) for at, every in reloads)
    due, every, position = [], 1, 0
    for number in range(sent):
        for at, period in took:
            if at == number:
                every, position = period, 0
        position += 1
        if position % every == 0:
            due.append(number)
    assert sampled(range(sent), took) == due


def test_engine_that_counts_on_is_hardly_ever_right_by_chance() -> None:
    """It is right at a reload if what it has received is a multiple of the new period."""
    assert prod(PERIODS) > 50_000


COUNTERS = {
    "received": 2300,
    "sampled_out": 800,
    "rejected": 0,
    "duplicate": 0,
    "dropped": 0,
    "waiting": 0,
    "admitted": 1500,
    "ticks_stored": 1500,
}
RELOADED: dict[str, Any] = {
    "n": 2300,
    "stored": 1500,
    "due": 1500,
    "difference": "",
    "done": len(PERIODS) + 1,
    "starts": 1,
    "took": [[300 * number, every] for number, every in enumerate(PERIODS, 1)],
    "refused": 1,
    "debug": 9,
    "debug_after": 0,
    "commit_s": 0.101,
    "exit_code": 0,
    "store": COUNTERS,
    "rows": {
        "compared": 1500,
        "difference": "",
        "sources": {"mock": {"stored": 1500, "missing": 800}},
        "signals": 150,
        "chains": "",
    },
}
ROWS = {"ticks": TRADES, "signals": 401, "orders": 401, "trades": 401}
REPLAYED: dict[str, Any] = {"n": TRADES, "rows": ROWS, "replayed": ROWS, "difference": "", "exit_code": 0}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "PASS"),
        ({"difference": "row 7 is trade 8, due 7"}, "FAIL at the guard"),
        ({"starts": 2}, "FAIL at the guard"),
        ({"done": len(PERIODS)}, "FAIL at the guard"),
        ({"refused": 0}, "FAIL at the guard"),
        ({"took": [[300, PERIODS[0]], [600, 1], [900, PERIODS[2]]]}, "FAIL at the guard"),
        ({"debug": 0}, "FAIL at the guard"),
        ({"debug_after": 3}, "FAIL at the guard"),
        ({"commit_s": None}, "FAIL at the guard"),
        ({"commit_s": 1.0}, "FAIL at the guard"),
        ({"store.received": 2299}, "FAIL"),
        ({"store.dropped": 1}, "FAIL"),
        ({"rows.difference": "row 7: price"}, "FAIL at the guard"),
        ({"exit_code": None}, "FAIL at the guard"),
        ({"n": 999}, "INCONCLUSIVE"),
    ],
)
def test_each_figure_of_reloads_counts(changes: dict[str, Any], verdict: str) -> None:
    assert verdict_of(Reloads(DEPLOYED), RELOADED, changes) == verdict


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "PASS"),
        ({"replayed.orders": 400}, "FAIL at the guard"),
        ({"difference": "orders: price"}, "FAIL at the guard"),
        ({"exit_code": 12}, "FAIL at the guard"),
        ({"rows.ticks": 1202}, "FAIL"),
    ],
)
def test_each_figure_of_a_replay_counts(changes: dict[str, Any], verdict: str) -> None:
    assert verdict_of(Replay(DEPLOYED), REPLAYED, changes) == verdict
