"""Who leads and when a source may be tried, whatever happens in whatever order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from hybrid_engine.ingest.retry_policy import ATTEMPTS_A_MINUTE, LONGEST_HOLD_S, LONGEST_PAUSE_S, RetryPolicy
from hybrid_engine.ingest.source_selector import GRACE_S, PROBE_S, SourceSelector
from hybrid_engine.ingest.source_state import Rules, SourceState
from tests.support.world import STEP_S, World

SYMBOLS = ("BTC/USD", "ETH/USD")

carried = st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=2, unique=True).map(tuple)
moves = st.one_of(
    st.tuples(st.just("fail"), st.integers(0, 3)),
    st.tuples(st.just("trade"), st.integers(0, 3), st.sampled_from(SYMBOLS)),
    st.tuples(st.just("market"), st.integers(1, 40)),
    st.tuples(st.just("down"), st.integers(0, 3)),
    st.tuples(st.just("up"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(1, 60)),
)


@pytest.mark.holds("FAILOVER", "PACE")
@settings(max_examples=200)
@given(
    st.lists(st.tuples(carried, st.integers(1, 3)), min_size=1, max_size=4),
    st.lists(moves, max_size=40),
    st.booleans(),
    st.sampled_from([1.0, 5.0]),
)
def test_whatever_happens_the_lead_is_sound(
    sources: list[tuple[tuple[str, ...], int]], script: list[tuple[object, ...]], hot: bool, stale_after_s: float
) -> None:
    world = World([own for own, _ in sources], [priority for _, priority in sources], Rules(stale_after_s, 4.0, hot))
    for what, *args in script:
        amount = args[0]
        assert isinstance(amount, int)
        picked = world.sources[amount % len(world.sources)]
        if what == "fail" and picked.connected_at is not None:
            world.fail(picked)
        elif what == "trade":
            world.trade(picked, str(args[1]))
        elif what == "market":
            for _ in range(amount):
                for source in world.sources:
                    for symbol in source.symbols:
                        world.trade(source, symbol)
                world.step()
        elif what == "down":
            world.down.add(picked.name)
            if picked.connected_at is not None:
                world.fail(picked)
        elif what == "up":
            world.down.discard(picked.name)
        elif what == "wait":
            for _ in range(amount):
                world.step()
        world.settle()
    for tries in world.tries.values():
        for earlier, later in zip(tries, tries[ATTEMPTS_A_MINUTE:], strict=False):
            assert later - earlier >= 60
    # When all is well again and the market moves, the best of each symbol leads it in the end.
    world.down.clear()
    leads = world.choice.leads
    best = {symbol: min(source.priority for source in world.sources if symbol in source.symbols) for symbol in leads}
    deadline = world.now + 2.5 * LONGEST_HOLD_S
    while {symbol: lead.leader and lead.leader.priority for symbol, lead in leads.items()} != best:
        assert world.now < deadline, (best, leads)
        for source in world.sources:
            for symbol in source.symbols:
                world.trade(source, symbol)
        world.step()
    event(f"changes: {len({change.why for _, change in world.changes})} kinds")


@pytest.mark.holds("QUIET")
@pytest.mark.parametrize("hot", [False, True])
def test_a_night_without_a_trade_moves_nobody_and_few_are_asked(hot: bool) -> None:
    world = World([("BTC/USD",)] * 3, [1, 2, 3], Rules(60.0, 60.0, hot))
    for _ in range(round(8 * 3600 / STEP_S)):
        world.step()
    assert world.leader() == "s0"
    assert len(world.changes) == 1
    assert world.choice.leads["BTC/USD"].quiet
    asked = len(world.tries["s1"]) + len(world.tries["s2"])
    # At 1, 3, 6 ... minutes, then once an hour; a hot standby knows without asking.
    assert asked == 1 if hot else 6 <= asked <= 15, asked


@pytest.mark.holds("STALE")
def test_a_probe_finds_the_rival_that_trades_and_only_then_the_lead_moves() -> None:
    world = World([("BTC/USD",)] * 2, [1, 2], Rules(10.0, 60.0, False))
    leader, rival = world.sources
    for _ in range(20):
        world.trade(leader, "BTC/USD")
        world.step()
    began = world.now
    while world.leader() == "s0":
        world.trade(rival, "BTC/USD")  # while it is connected
        world.step()
        assert world.now - began < 10 + PROBE_S
    assert world.now - began >= 10 + GRACE_S
    assert world.changes[-1][1].why == "stale"


def test_a_slow_market_does_not_make_a_storm_of_probes() -> None:
    world = World([("BTC/USD",)] * 2, [1, 2], Rules(10.0, 60.0, False))
    for n in range(round(3600 / STEP_S)):
        if n % round(11 / STEP_S) == 0:  # a trade now and then, each time a second too late
            world.trade(world.sources[0], "BTC/USD")
        world.step()
    assert world.leader() == "s0"
    assert 1 <= len(world.tries["s1"]) <= 10


@pytest.mark.holds("FAILBACK")
def test_a_source_that_dies_each_minute_is_not_tried_each_minute() -> None:
    world = World([("BTC/USD",)] * 2, [1, 2], Rules(60.0, 60.0, False))
    flapping, steady = world.sources
    for _ in range(round(4 * 3600 / STEP_S)):
        if flapping.connected_at is not None and world.now - flapping.connected_at >= 60:
            world.fail(flapping)
        for source in world.sources:
            world.trade(source, "BTC/USD")
        world.step()
    tries = world.tries["s0"]
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert min(pauses) > 60
    assert pauses == sorted(pauses)
    assert pauses[-1] >= LONGEST_HOLD_S
    assert len(tries) < 30
    # Well for long, it leads again, and a single failure then is forgiven soon.
    while steady.connected_at is not None or world.leader() != "s0":
        for source in world.sources:
            world.trade(source, "BTC/USD")
        world.step()
    for _ in range(round(700 / STEP_S)):
        world.trade(flapping, "BTC/USD")
        world.step()
    world.fail(flapping)
    assert world.patience["s0"].beside_at - world.now == 15


@pytest.mark.holds("PACE")
@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5000), st.sampled_from([0.0, 7.0, 900.0])), max_size=60),
    st.floats(0.5, 3600),
    st.floats(0, 1),
)
def test_pauses_grow_are_capped_and_obey(tries: list[tuple[float, float, float]], back_s: float, luck: float) -> None:
    patience = RetryPolicy(lambda low, high: low + luck * (high - low))
    now, at, ceiling = 0.0, [], 0.5
    for late_s, useful_s, hold_s in tries:
        now = max(now, patience.ready_at) + late_s
        patience.tried(now)
        at.append(now)
        patience.failed(now, useful_s, hold_s, back_s)
        ceiling = 0.5 if useful_s >= 5.0 else ceiling
        assert patience.ready_at >= now + hold_s
        if len(at) < ATTEMPTS_A_MINUTE:
            assert patience.ready_at == pytest.approx(now + max(hold_s, luck * min(ceiling, LONGEST_PAUSE_S)))
        assert patience.beside_at >= patience.ready_at
        ceiling *= 2
    for earlier, later in zip(at, at[ATTEMPTS_A_MINUTE:], strict=False):
        assert later - earlier >= 60 - 1e-9


def test_at_the_very_first_a_better_one_on_its_way_is_waited_for_and_never_again() -> None:
    rules = Rules(60.0, 60.0, False)
    better, next_one = SourceState("better", 1, ("X",)), SourceState("next", 2, ("X",))
    choice = SourceSelector([better, next_one])
    better.connecting_at = 100.0
    next_one.connected(100.1)
    assert choice.decide(100.2, rules) == []
    assert set(choice.wanted) == {"better", "next"}
    (change,) = choice.decide(101.1, rules)
    assert change.new is next_one
    next_one.gone()
    choice.decide(200.0, rules)
    better.connecting_at = 300.0
    next_one.connected(300.1)
    (change,) = choice.decide(300.2, rules)
    assert change.new is next_one


@pytest.mark.holds("STANDBY")
def test_of_three_the_next_one_stands_by_and_who_stood_in_for_it_is_let_go_then() -> None:
    world = World([("BTC/USD",)] * 3, [1, 2, 3], Rules(60.0, 60.0, True))
    world.down.add("s1")
    for _ in range(20):
        world.step()
    assert world.choice.wanted["s2"] == "standby"
    world.down.clear()
    stood_by = True
    for _ in range(round(60 / STEP_S)):
        world.step()
        there = [source.name for source in world.sources if source.useful_from is not None]
        stood_by = stood_by and len(there) >= 2
    assert stood_by
    assert there == ["s0", "s1"]


@pytest.mark.holds("FAILOVER")
def test_who_takes_over_is_rather_one_that_was_not_left_and_has_said_something() -> None:
    rules = Rules(60.0, 60.0, True)
    sources = leader, left, mute, speaks = [SourceState(f"s{n}", n, ("X",)) for n in range(4)]
    choice = SourceSelector(sources)
    leader.connected(1.0)
    choice.decide(1.0, rules)
    for source in (left, mute, speaks):
        source.connected(2.0)
    left.useful_from = speaks.useful_from = 2.0
    choice.leads["X"].left["s1"] = 3.0
    order = []
    for now in (4.0, 5.0, 6.0, 7.0):
        taken = choice.leads["X"].leader
        assert taken is not None
        order.append(taken.name)
        taken.gone()
        choice.decide(now, rules)
    assert order == ["s0", "s3", "s2", "s1"]
