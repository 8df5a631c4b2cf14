"""Made-up sources behind a fake clock: the selector and the sources' state decide as in the engine, without sockets."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import cast

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.config.sources import Source
from hybrid_engine.ingest.connection_attempt import ConnectionAttempt
from hybrid_engine.ingest.failure import SourceFailed
from hybrid_engine.ingest.retry_policy import RetryPolicy
from hybrid_engine.ingest.source_selector import SourceChange, SourceSelector
from hybrid_engine.ingest.source_state import SourceState

STEP_S = 0.25


class FakeConnection:
    def fileno(self) -> int:
        return -1


class FakeAttempt:
    """Pending until `outcome` is set to a connection or to an error."""

    def __init__(self) -> None:
        self.outcome: FakeConnection | SourceFailed | None = None
        self.symbols: list[str] = []

    def result(self) -> FakeConnection | None:
        if isinstance(self.outcome, SourceFailed):
            raise self.outcome
        return self.outcome

    def abandon(self) -> None:
        pass


def make_source(name: str, priority: int, symbols: tuple[str, ...], retry: RetryPolicy | None = None) -> SourceState:
    return SourceState(Source(name, "ws://x/stream", "binance", symbols, priority, ""), symbols[0], retry)


def begin_connecting(source: SourceState, now: float, purpose: str = "needed") -> FakeAttempt:
    attempt = FakeAttempt()
    source.begin_connecting(now, purpose, cast(ConnectionAttempt, attempt))
    return attempt


def connect(source: SourceState, now: float) -> None:
    begin_connecting(source, now).outcome = FakeConnection()
    assert source.finish_connecting(now) is not None


def selection_rules(stale_after_s: float, failback_after_s: float, hot_standby: bool) -> EngineSettings:
    """The settings that the selector reads."""
    standby = "hot" if hot_standby else "cold"
    return EngineSettings(stale_after_s=stale_after_s, failback_after_s=failback_after_s, standby=standby)


@dataclass
class World:
    """Sources that are connected and released as the selector wants. `down`: the names of those that cannot connect."""

    symbols: list[tuple[str, ...]]
    priorities: list[int]
    rules: EngineSettings
    now: float = 1000.0
    down: set[str] = field(default_factory=set)
    changes: list[tuple[float, SourceChange]] = field(default_factory=list)

    def __post_init__(self) -> None:
        ranked = sorted(zip(self.priorities, self.symbols, strict=True), key=lambda pair: pair[0])
        draw = random.Random(1).uniform
        self.sources = [make_source(f"s{n}", rank, own, RetryPolicy(draw)) for n, (rank, own) in enumerate(ranked)]
        self.attempts: dict[str, list[float]] = {source.name: [] for source in self.sources}
        self.selector = SourceSelector(self.sources)
        self._pending: dict[SourceState, FakeAttempt] = {}

    def fail(self, source: SourceState) -> None:
        source.fail(self.now, SourceFailed("made up"), self.rules.failback_after_s)

    def receive_heartbeat(self, source: SourceState) -> None:
        if source.session is not None:
            source.mark_seen(self.now, round(self.now * 1000), traded=False)

    def receive_trade(self, source: SourceState, symbol: str) -> None:
        self.receive_heartbeat(source)
        if source.session is not None and symbol in source.symbols:
            source.traded_at[symbol] = self.now

    def decide(self) -> None:
        """Decide, and carry it out as the feed does."""
        changes = self.selector.decide(self.now, self.rules)
        self.changes += [(self.now, change) for change in changes]
        self.check(changes)
        for change in changes:
            if change.reason == "stale" and change.old is not None:
                change.old.mark_stale(self.now, self.rules.failback_after_s)
        for source in self.sources:
            purpose = self.selector.purposes.get(source)
            if purpose is None:
                if not source.idle:
                    source.release(self.now, self.rules.failback_after_s)
                    self._pending.pop(source, None)
                continue
            source.purpose = purpose
            if source.idle and source.retry.retry_at <= self.now:
                self.attempts[source.name].append(self.now)
                self._pending[source] = begin_connecting(source, self.now, purpose)

    def check(self, changes: list[SourceChange]) -> None:
        expected = self.selector.purposes
        for symbol, active in self.selector.active.items():
            carriers = [source for source in self.sources if symbol in source.symbols]
            connected = [source for source in carriers if source.connected_at is not None]
            if active.source is not None:
                assert active.source in connected
                assert active.source in expected
            else:
                assert not connected or any(source.connecting_at is not None for source in carriers)
        for change in changes:
            assert change.new is self.selector.active[change.symbol].source
            assert change.symbol in change.new.symbols
            if change.reason == "better":
                assert change.old is not None
                assert change.new.priority < change.old.priority
                assert change.new.useful_s >= self.rules.failback_after_s
            if change.reason == "stale":
                assert change.old is not None
                assert self.now - change.silent_since >= self.rules.stale_after_s
                assert change.new.traded_at[change.symbol] > change.silent_since
        for source, purpose in expected.items():
            assert (source.connected_at is None) == (source.session is None)
            if source.idle:
                assert source.retry.retry_at <= self.now or purpose == "probe"

    def finish_attempts(self) -> None:
        """Let the attempts of earlier steps succeed, or fail where the source is down."""
        for source, attempt in list(self._pending.items()):
            if source.connecting_at is not None and source.connecting_at < self.now:
                del self._pending[source]
                attempt.outcome = SourceFailed("down") if source.name in self.down else FakeConnection()
                try:
                    source.finish_connecting(self.now)
                except SourceFailed:
                    self.fail(source)

    def step(self, heartbeats: bool = True) -> None:
        self.now += STEP_S
        self.finish_attempts()
        if heartbeats:
            for source in self.sources:
                self.receive_heartbeat(source)
        self.decide()

    def active_source(self, symbol: str = "BTC/USD") -> str:
        """The name of the active source, "" where there is none."""
        source = self.selector.active[symbol].source
        return source.name if source is not None else ""
