"""Who leads, when a source may be tried, and what the numbers tell, whatever happens in whatever order."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from hybrid_engine.ingest.choice import GRACE_S, PROBE_S, Choice
from hybrid_engine.ingest.exchanges import Mark
from hybrid_engine.ingest.patience import ATTEMPTS_A_MINUTE, LONGEST_HOLD_S, LONGEST_PAUSE_S, Patience
from hybrid_engine.ingest.sequence import LATE_S, WAITING, Hole, Holes, Numbers
from hybrid_engine.ingest.standing import Change, Rules, Standing

SYMBOLS = ("BTC/USD", "ETH/USD")
STEP_S = 0.25


@dataclass
class World:
    """Sources behind a fake clock, connected and let go as the choice wants it. `down`: those that cannot connect."""

    carries: list[tuple[str, ...]]
    priorities: list[int]
    rules: Rules
    now: float = 1000.0
    down: set[str] = field(default_factory=set)
    changes: list[tuple[float, Change]] = field(default_factory=list)

    def __post_init__(self) -> None:
        ranked = sorted(zip(self.priorities, self.carries, strict=True), key=lambda pair: pair[0])
        self.sources = [Standing(f"s{n}", priority, own) for n, (priority, own) in enumerate(ranked)]
        chance = random.Random(1)
        self.patience = {source.name: Patience(chance.uniform) for source in self.sources}
        self.tries: dict[str, list[float]] = {source.name: [] for source in self.sources}
        self.choice = Choice(self.sources)

    def fail(self, source: Standing) -> None:
        self.patience[source.name].failed(self.now, source.useful_s, 0.0, self.rules.failback_after_s)
        source.failed_at = self.now
        source.gone()

    def beat(self, source: Standing) -> None:
        if source.connected_at is not None:
            source.useful_from = source.useful_from or self.now
            source.heard_at = self.now

    def trade(self, source: Standing, symbol: str) -> None:
        self.beat(source)
        if source.connected_at is not None and symbol in source.symbols:
            source.traded_at[symbol] = self.now

    def settle(self) -> None:
        """Decide, and do as the feed does."""
        for source in self.sources:
            patience = self.patience[source.name]
            source.ready_at, source.beside_at = patience.ready_at, patience.beside_at
        made = self.choice.decide(self.now, self.rules)
        self.changes += [(self.now, change) for change in made]
        self.check(made)
        for source in self.sources:
            idle = source.connected_at is None and source.connecting_at is None
            if source.name not in self.choice.wanted:
                source.gone()
            elif idle and source.ready_at <= self.now:
                self.tries[source.name].append(self.now)
                self.patience[source.name].tried(self.now)
                source.connecting_at = self.now

    def check(self, made: list[Change]) -> None:
        leads = self.choice.leads
        for symbol, lead in leads.items():
            carriers = [source for source in self.sources if symbol in source.symbols]
            there = [source for source in carriers if source.connected_at is not None]
            if lead.leader is not None:
                assert lead.leader in there
                assert lead.leader.name in self.choice.wanted
            else:
                waiting = [s for s in carriers if s.connecting_at is not None]
                assert not there or waiting
        for change in made:
            assert change.new is leads[change.symbol].leader
            assert change.symbol in change.new.symbols
            if change.why == "better":
                assert change.old is not None
                assert change.new.priority < change.old.priority
                assert change.new.useful_s >= self.rules.failback_after_s
            if change.why == "stale":
                assert change.old is not None
                assert self.now - change.silent_since >= self.rules.stale_after_s
                assert change.new.traded_at[change.symbol] > change.silent_since
        for name in self.choice.wanted:
            (source,) = (s for s in self.sources if s.name == name)
            if source.connected_at is None and source.connecting_at is None:
                assert source.ready_at <= self.now or self.choice.wanted[name] == "probe"

    def connect(self) -> None:
        """Whoever is on the way arrives, or does not."""
        for source in self.sources:
            if source.connecting_at is not None and source.connecting_at < self.now:
                if source.name in self.down:
                    self.fail(source)
                else:
                    source.connected(self.now)

    def step(self, beats: bool = True) -> None:
        self.now += STEP_S
        self.connect()
        if beats:
            for source in self.sources:
                self.beat(source)
        self.settle()

    def leader(self, symbol: str = "BTC/USD") -> str:
        leader = self.choice.leads[symbol].leader
        return leader.name if leader is not None else ""


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
    patience = Patience(lambda low, high: low + luck * (high - low))
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


@pytest.mark.holds("MISSED")
@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=6), min_size=1, max_size=30),
    st.integers(1, 10**15),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_holes_are_found_exactly_and_nothing_else(
    messages: list[list[int]], start: int, lasting: bool, chance: random.Random
) -> None:
    """Each number of a list says how far the next mark is from the one before: 1 is no hole."""
    numbers = Numbers()
    number, missed, first = start, 0, True
    for steps in messages:
        marks = []
        for step in steps:
            missed += 0 if first else step - 1
            number += step
            first = False
            length = chance.randrange(3)
            marks.append(Mark("X", number, number + length, lasting))
            number += length
        chance.shuffle(marks)  # exchanges do not promise order inside a message
        found = sum(last - first + 1 for _, first, last, _, came in numbers.observe(marks) if not came)
        again = numbers.observe(marks)  # a repetition
        assert [told for told in again if not told.came] == []
        missed -= found
        assert missed == 0
    if not lasting:
        numbers.new_socket(lambda symbol: True)
        assert left_out(numbers, Mark("X", 5, 5, False)) == []
    else:
        numbers.new_socket(lambda symbol: True)
        assert left_out(numbers, Mark("X", number + 3, number + 3, True)) == [("X", 2)]
        numbers.new_socket(lambda symbol: False)
        assert left_out(numbers, Mark("X", number + 9, number + 9, True)) == []


def left_out(numbers: Numbers, *marks: Mark) -> list[tuple[str, int]]:
    """How many numbers are missing in front of these marks, by symbol."""
    return [(symbol, last - first + 1) for symbol, first, last, _, came in numbers.observe(marks) if not came]


@pytest.mark.holds("MISSED")
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 8), st.randoms(use_true_random=False))
def test_what_comes_late_in_whatever_order_is_not_missed(steps: list[int], reach: int, chance: random.Random) -> None:
    """Each number of a list says how many are left out for good behind one that is sent; those come out of order."""
    sent, missed, number = [], 0, 1000
    for step in steps:
        sent.append(number)
        number += 1 + step
        missed += step
    missed -= steps[-1]  # behind the last there is nothing that could tell
    first, last = sent[0], sent[-1]
    middle = [(at + chance.uniform(0, reach), at) for at in sent[1:-1]]
    numbers, holes = Numbers(), Holes()
    for late_number in [first, *(at for _, at in sorted(middle)), last, chance.choice(sent)]:
        for symbol, low, high, _, came in numbers.observe([Mark("X", late_number, late_number, True)]):
            if came:
                holes.came("X", low, high)
            else:
                holes.add(Hole("X", "one", symbol, [(low, high)], 1, 2, found_at=100.0))
    holes.came("Y", 0, 10**9)  # of another source, or another socket
    assert list(holes.over(100.0 + LATE_S / 2)) == []
    assert sum(hole.count for hole in holes.over(100.0 + LATE_S)) == missed
    assert list(holes.over(float("inf"))) == []


@pytest.mark.holds("MEMORY")
def test_so_many_holes_and_pieces_are_kept_open() -> None:
    holes = Holes()
    for number in range(0, 4 * WAITING, 2):
        holes.add(Hole("X", "one", "X", [(number, number)], 1, 2, 100.0))
    assert len(list(holes.over(100.0))) == WAITING
    holes = Holes()
    holes.add(Hole("X", "one", "X", [(0, 10**6)], 1, 2, 100.0))
    for number in range(1, 10**4, 2):
        holes.came("X", number, number)
    (hole,) = holes.over(float("inf"))
    assert len(hole.pieces) == WAITING
    assert hole.count == 10**6 + 1 - (WAITING - 1)


def test_numbers_that_begin_anew_or_jump_beyond_reason_are_no_hole() -> None:
    numbers = Numbers()
    assert left_out(numbers, Mark("X", 1_000_000, 1_000_000, True)) == []
    assert left_out(numbers, Mark("X", 1, 1, True)) == []
    assert left_out(numbers, Mark("X", 4, 4, True)) == [("X", 2)]
    assert left_out(numbers, Mark("X", 10**15, 10**15, True)) == []
    # A mark that covers nothing tells of the numbers below it.
    assert left_out(numbers, Mark("X", 10**15 + 4, 10**15 + 3, True)) == [("X", 3)]
    assert left_out(numbers, Mark("X", 10**15 + 4, 10**15 + 4, True)) == []
    # Two symbols, and the socket's own numbers, do not meet.
    assert left_out(numbers, Mark("Y", 5, 5, True), Mark("", 0, 0, False)) == []


def test_at_the_very_first_a_better_one_on_its_way_is_waited_for_and_never_again() -> None:
    rules = Rules(60.0, 60.0, False)
    better, next_one = Standing("better", 1, ("X",)), Standing("next", 2, ("X",))
    choice = Choice([better, next_one])
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
    sources = leader, left, mute, speaks = [Standing(f"s{n}", n, ("X",)) for n in range(4)]
    choice = Choice(sources)
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
