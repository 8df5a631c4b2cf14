"""Which source is active, and when a source may be tried, for any order of events."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from hybrid_engine.ingest.failure import SourceFailed
from hybrid_engine.ingest.retry_policy import ATTEMPTS_A_MINUTE, LONGEST_PAUSE_S, LONGEST_TRIAL_PAUSE_S, RetryPolicy
from hybrid_engine.ingest.source_selector import GRACE_S, PROBE_S, SourceSelector
from tests.support.world import STEP_S, World, begin_connecting, connect, make_source, selection_rules

SYMBOLS = ("BTC/USD", "ETH/USD")

carried_symbols = st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=2, unique=True).map(tuple)
events = st.one_of(
    st.tuples(st.just("fail"), st.integers(0, 3)),
    st.tuples(st.just("trade"), st.integers(0, 3), st.sampled_from(SYMBOLS)),
    st.tuples(st.just("market"), st.integers(1, 40)),
    st.tuples(st.just("down"), st.integers(0, 3)),
    st.tuples(st.just("up"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(1, 60)),
)


def trade_everywhere(world: World) -> None:
    """Every connected source reports a trade of each of its symbols."""
    for source in world.sources:
        for symbol in source.symbols:
            world.receive_trade(source, symbol)


@pytest.mark.holds("FAILOVER", "PACE")
@settings(max_examples=200)
@given(
    st.lists(st.tuples(carried_symbols, st.integers(1, 3)), min_size=1, max_size=4),
    st.lists(events, max_size=40),
    st.booleans(),
    st.sampled_from([1.0, 5.0]),
)
def test_selection_is_sound_for_any_events(
    sources: list[tuple[tuple[str, ...], int]], script: list[tuple[object, ...]], hot: bool, stale_after_s: float
) -> None:
    """`World.check` holds after each event; in the end the best source of each symbol is active again."""
    rules = selection_rules(stale_after_s, 4.0, hot)
    world = World([own for own, _ in sources], [priority for _, priority in sources], rules)
    for what, *args in script:
        amount = args[0]
        assert isinstance(amount, int)
        source = world.sources[amount % len(world.sources)]
        if what == "fail" and source.connected_at is not None:
            world.fail(source)
        elif what == "trade":
            world.receive_trade(source, str(args[1]))
        elif what == "market":
            for _ in range(amount):
                trade_everywhere(world)
                world.step()
        elif what == "down":
            world.down.add(source.name)
            if source.connected_at is not None:
                world.fail(source)
        elif what == "up":
            world.down.discard(source.name)
        elif what == "wait":
            for _ in range(amount):
                world.step()
        world.decide()
    for attempts in world.attempts.values():
        for earlier, later in zip(attempts, attempts[ATTEMPTS_A_MINUTE:], strict=False):
            assert later - earlier >= 60
    world.down.clear()
    active_sources = world.selector.active
    best = {s: min(source.priority for source in world.sources if s in source.symbols) for s in active_sources}
    deadline = world.now + 2.5 * LONGEST_TRIAL_PAUSE_S
    while {s: active.source and active.source.priority for s, active in active_sources.items()} != best:
        assert world.now < deadline, (best, active_sources)
        trade_everywhere(world)
        world.step()
    event(f"changes: {len({change.reason for _, change in world.changes})} kinds")


@pytest.mark.holds("QUIET")
@pytest.mark.parametrize("hot", [False, True])
def test_quiet_market_changes_no_source_and_probes_rarely(hot: bool) -> None:
    world = World([("BTC/USD",)] * 3, [1, 2, 3], selection_rules(60.0, 60.0, hot))
    for _ in range(round(8 * 3600 / STEP_S)):
        world.step()
    assert world.active_source() == "s0"
    assert len(world.changes) == 1
    assert world.selector.active["BTC/USD"].quiet
    attempts = len(world.attempts["s1"]) + len(world.attempts["s2"])
    # Probes after 1, 3, 6 ... minutes, then once an hour; a hot standby needs none.
    assert attempts == 1 if hot else 6 <= attempts <= 15, attempts


@pytest.mark.holds("STALE")
def test_probe_replaces_stale_source_only_if_another_trades() -> None:
    world = World([("BTC/USD",)] * 2, [1, 2], selection_rules(10.0, 60.0, False))
    active, other = world.sources
    for _ in range(20):
        world.receive_trade(active, "BTC/USD")
        world.step()
    silent_since = world.now
    while world.active_source() == "s0":
        world.receive_trade(other, "BTC/USD")  # has an effect only while it is connected
        world.step()
        assert world.now - silent_since < 10 + PROBE_S
    assert world.now - silent_since >= 10 + GRACE_S
    assert world.changes[-1][1].reason == "stale"


def test_slow_market_causes_few_probes() -> None:
    world = World([("BTC/USD",)] * 2, [1, 2], selection_rules(10.0, 60.0, False))
    for n in range(round(3600 / STEP_S)):
        if n % round(11 / STEP_S) == 0:  # each trade a second after stale_after_s
            world.receive_trade(world.sources[0], "BTC/USD")
        world.step()
    assert world.active_source() == "s0"
    assert 1 <= len(world.attempts["s1"]) <= 10


@pytest.mark.holds("FAILBACK")
def test_flapping_source_is_tried_ever_more_rarely() -> None:
    world = World([("BTC/USD",)] * 2, [1, 2], selection_rules(60.0, 60.0, False))
    flapping, steady = world.sources
    for _ in range(round(4 * 3600 / STEP_S)):
        if flapping.connected_at is not None and world.now - flapping.connected_at >= 60:
            world.fail(flapping)
        trade_everywhere(world)
        world.step()
    attempts = world.attempts["s0"]
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert min(pauses) > 60
    assert pauses == sorted(pauses)
    assert pauses[-1] >= LONGEST_TRIAL_PAUSE_S
    assert len(attempts) < 30
    # Once it works for long it is active again, and after a single failure it is tried soon.
    while steady.connected_at is not None or world.active_source() != "s0":
        trade_everywhere(world)
        world.step()
    for _ in range(round(700 / STEP_S)):
        world.receive_trade(flapping, "BTC/USD")
        world.step()
    world.fail(flapping)
    assert flapping.retry.trial_at - world.now == 15


@pytest.mark.holds("PACE")
@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5000), st.sampled_from([0.0, 7.0, 900.0])), max_size=60),
    st.floats(0.5, 3600),
    st.floats(0, 1),
)
def test_retry_pauses_grow_and_are_capped(
    failures: list[tuple[float, float, float]], failback_after_s: float, luck: float
) -> None:
    """Each failure: how long after it could be tried it was, its useful service and its `hold_s`, in seconds."""
    retry = RetryPolicy(lambda low, high: low + luck * (high - low))
    now, attempts, ceiling = 0.0, [], 0.5
    for late_s, useful_s, hold_s in failures:
        now = max(now, retry.retry_at) + late_s
        retry.record_attempt(now)
        attempts.append(now)
        retry.record_failure(now, useful_s, hold_s, failback_after_s)
        ceiling = 0.5 if useful_s >= 5.0 else ceiling
        assert retry.retry_at >= now + hold_s
        if len(attempts) < ATTEMPTS_A_MINUTE:
            assert retry.retry_at == pytest.approx(now + max(hold_s, luck * min(ceiling, LONGEST_PAUSE_S)))
        assert retry.trial_at >= retry.retry_at
        ceiling *= 2
    for earlier, later in zip(attempts, attempts[ATTEMPTS_A_MINUTE:], strict=False):
        assert later - earlier >= 60 - 1e-9


def test_first_selection_alone_waits_for_better_source() -> None:
    rules = selection_rules(60.0, 60.0, False)
    better, other = make_source("better", 1, ("X",)), make_source("other", 2, ("X",))
    selector = SourceSelector([better, other])
    begin_connecting(better, 100.0)
    connect(other, 100.1)
    assert selector.decide(100.2, rules) == []
    assert set(selector.purposes) == {better, other}
    (change,) = selector.decide(101.1, rules)
    assert change.new is other
    other.fail(200.0, SourceFailed("made up"), 60.0)
    selector.decide(200.0, rules)
    better.release(250.0, 60.0)
    begin_connecting(better, 300.0)
    connect(other, 300.1)
    (change,) = selector.decide(300.2, rules)
    assert change.new is other


@pytest.mark.holds("STANDBY")
def test_substitute_standby_is_released_once_the_next_source_is_useful() -> None:
    world = World([("BTC/USD",)] * 3, [1, 2, 3], selection_rules(60.0, 60.0, True))
    world.down.add("s1")
    for _ in range(20):
        world.step()
    assert world.selector.purposes[world.sources[2]] == "standby"
    world.down.clear()
    always_two = True
    for _ in range(round(60 / STEP_S)):
        world.step()
        useful = [source.name for source in world.sources if source.useful_since is not None]
        always_two = always_two and len(useful) >= 2
    assert always_two
    assert useful == ["s0", "s1"]


@pytest.mark.holds("FAILOVER")
def test_failover_prefers_fresh_and_useful_sources() -> None:
    rules = selection_rules(60.0, 60.0, True)
    sources = first, stale, unproven, useful = [make_source(f"s{n}", n, ("X",)) for n in range(4)]
    selector = SourceSelector(sources)
    connect(first, 1.0)
    selector.decide(1.0, rules)
    for source in (stale, unproven, useful):
        connect(source, 2.0)
    stale.mark_seen(2.0, 2000, traded=False)
    useful.mark_seen(2.0, 2000, traded=False)
    selector.active["X"].stale_at[stale] = 3.0
    order = []
    for now in (4.0, 5.0, 6.0, 7.0):
        active = selector.active["X"].source
        assert active is not None
        order.append(active.name)
        active.fail(now, SourceFailed("made up"), 60.0)
        selector.decide(now, rules)
    assert order == ["s0", "s3", "s2", "s1"]


@pytest.mark.holds("FAILBACK")
@pytest.mark.parametrize(("traded_at", "better"), [(99.0, True), (90.0, True), (89.0, False), (None, False)])
def test_failback_waits_for_a_source_that_keeps_up(traded_at: float | None, better: bool) -> None:
    """The better source has been useful for long enough; the other one traded last at 100 s."""
    rules = selection_rules(10.0, 20.0, True)
    first, second = (make_source(name, number, ("X",)) for number, name in enumerate(("s0", "s1")))
    selector = SourceSelector((first, second))
    for one in (first, second):
        connect(one, 1.0)
        one.mark_seen(2.0, 2000, traded=True)
        one.mark_seen(100.0, 100_000, traded=True)
    second.traded_at["X"] = 100.0
    if traded_at is not None:
        first.traded_at["X"] = traded_at
    assert selector.active["X"]._is_proven(first, second, rules) is better
    first.useful_since = 81.0  # not for failback_after_s
    assert not selector.active["X"]._is_proven(first, second, rules)


@pytest.mark.holds("FAILOVER")
def test_next_source_is_tried_after_a_second() -> None:
    """One that takes long to connect is not waited for."""
    rules = selection_rules(60.0, 60.0, False)
    first, second = (make_source(name, number, ("X",)) for number, name in enumerate(("s0", "s1")))
    selector = SourceSelector((first, second))
    selector.decide(100.0, rules)
    assert set(selector.purposes) == {first}
    begin_connecting(first, 100.0)
    for now, wanted in ((100.5, {first}), (101.1, {first, second})):
        selector.decide(now, rules)
        assert set(selector.purposes) == wanted
