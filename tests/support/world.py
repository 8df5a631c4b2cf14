"""Sources behind a clock that a test turns: who leads and who is connected is decided as in the engine."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hybrid_engine.ingest.retry_policy import RetryPolicy
from hybrid_engine.ingest.source_selector import SourceSelector
from hybrid_engine.ingest.source_state import Change, Rules, SourceState

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
        self.sources = [SourceState(f"s{n}", priority, own) for n, (priority, own) in enumerate(ranked)]
        chance = random.Random(1)
        self.patience = {source.name: RetryPolicy(chance.uniform) for source in self.sources}
        self.tries: dict[str, list[float]] = {source.name: [] for source in self.sources}
        self.choice = SourceSelector(self.sources)

    def fail(self, source: SourceState) -> None:
        self.patience[source.name].failed(self.now, source.useful_s, 0.0, self.rules.failback_after_s)
        source.failed_at = self.now
        source.gone()

    def heartbeat(self, source: SourceState) -> None:
        if source.connected_at is not None:
            source.useful_from = source.useful_from or self.now
            source.heard_at = self.now

    def trade(self, source: SourceState, symbol: str) -> None:
        self.heartbeat(source)
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
                self.heartbeat(source)
        self.settle()

    def leader(self, symbol: str = "BTC/USD") -> str:
        leader = self.choice.leads[symbol].leader
        return leader.name if leader is not None else ""
