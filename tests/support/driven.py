"""The real pipeline on a real file, driven by a test that feeds, locks, breaks, reloads, stops and kills it."""

from __future__ import annotations

import queue
import shutil
import sqlite3
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hybrid_engine import pipeline as pipeline_module
from hybrid_engine.config.load import Config
from hybrid_engine.config.settings import AppSettings, ChannelSizes, EngineSettings, RiskCaps, Settings
from hybrid_engine.domain.events import MarketTrade, Signal, Tick
from hybrid_engine.ingest.stage import IngestStage
from hybrid_engine.pipeline import Pipeline
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.stages.adapter import FillAtLast
from hybrid_engine.stages.strategy import Periodic
from hybrid_engine.storage.store import Store
from tests.support.pipeline import INFO, CheckedStore, nothing
from tests.support.process import wait_until

Item = tuple[str, int | None]  # symbol, and the trade's id at the exchange
Flood = tuple[str, list[Item]]  # of one source


@dataclass
class OfferedTrades:
    """The trades offered to a run, in order, and the expected result, computed in the simplest way."""

    sample_every: int
    log: list[tuple[str, str, int | None]] = field(default_factory=list)  # source, symbol ("": rejected), trade id
    reloads: list[tuple[int, int]] = field(default_factory=list)  # received at the reload, sample_every from then on

    def fates(self) -> Counter[str]:
        known: set[tuple[str, str, int]] = set()
        observed: Counter[str] = Counter()
        every, reloads, result = self.sample_every, list(self.reloads), Counter[str]()
        for position, (source, symbol, number) in enumerate(self.log):
            while reloads and reloads[0][0] <= position:
                every = reloads.pop(0)[1]
                observed.clear()
            if not symbol:
                result["rejected"] += 1
            elif number is not None and (source, symbol, number) in known:
                result["duplicate"] += 1
            else:
                if number is not None:
                    known.add((source, symbol, number))
                observed[symbol] += 1
                result["sampled_out" if observed[symbol] % every else "passed"] += 1
        return result


class Feeder(IngestStage):
    """An ingest stage that offers the trades from a queue."""

    offered: OfferedTrades
    floods: queue.SimpleQueue[Flood]

    def work(self) -> None:
        while not self.stopping:
            self.heartbeat()
            try:
                source, items = self.floods.get(timeout=0.005)
            except queue.Empty:
                continue
            if not items:
                self.offered.log.append((source, "", None))
                self.admission.count_loss("rejected", source, "BTC/USD", now_ms())
                continue
            self.offered.log += [(source, symbol, number) for symbol, number in items]
            # All that is told of a trade follows from its number, so one that is offered again is a repetition.
            trades = [
                MarketTrade(symbol, 1.0 + (number or 0), 1.0, number, 1_700_000_000_000) for symbol, number in items
            ]
            self.admission.offer_trades(source, trades, now_ms(), self.heartbeat)


class FaultyStrategy:
    """A strategy that can be paused, and that can fail."""

    def __init__(self, every: int) -> None:
        self._inner = Periodic(every)
        self.free, self.broken = threading.Event(), threading.Event()
        self.free.set()

    def on_tick(self, tick: Tick) -> Signal | None:
        self.free.wait()
        if self.broken.is_set():
            raise ZeroDivisionError("broken for good")
        return self._inner.on_tick(tick)


class FaultyStore(CheckedStore):
    """SQLite interrupts one write, after `fail_after` of its instructions."""

    fail_after = 0

    def write(self, *args: Any) -> None:
        remaining, self.fail_after = self.fail_after, 0

        def step() -> bool:
            nonlocal remaining
            remaining -= 1
            return remaining == 0

        if remaining:
            self._con.set_progress_handler(step, 1)
        try:
            super().write(*args)
        finally:
            self._con.set_progress_handler(None, 0)


class DrivenPipeline(Pipeline):
    def _make_ingest(self, config: Config, store: Store) -> IngestStage:
        return Feeder(config, self.admission, self.feed)


class Driven:
    """One run after the other on one database."""

    def __init__(self, db: Path, sizes: tuple[int, int, int], sample_every: int, signal_every: int) -> None:
        self.db = db
        self.settings = Settings(
            app=AppSettings(db_path=str(db)),
            engine=EngineSettings(sample_every=sample_every, admit_wait_ms=1.0, batch_rows=3, flush_interval_ms=2.0),
            channels=ChannelSizes(tick=sizes[0], signal=sizes[1], persist=sizes[2]),
            risk_caps=RiskCaps(max_exposure_usd=1.0, max_symbol_exposure_usd=0.6),
        )
        self._signal_every = signal_every
        self._lock: sqlite3.Connection | None = None
        self.copies = 0
        self.begin()

    def begin(self) -> None:
        """Begin the next run, as the engine does."""
        self.store = FaultyStore(self.db)
        self.store.begin_run(INFO, now_ms())
        self.strategy = FaultyStrategy(self._signal_every)
        engine = self.settings.engine
        Feeder.offered, Feeder.floods = OfferedTrades(engine.sample_every), queue.SimpleQueue()
        self.offered, self.floods = Feeder.offered, Feeder.floods
        config = Config(self.settings, {}, (), self.db)
        adapter = FillAtLast(self.settings.mode)
        self.pipeline = DrivenPipeline(config, self.store, self.strategy, adapter, nothing)

    def reload(self, every: int, wait_ms: float, batch_rows: int) -> None:
        engine = replace(self.settings.engine, sample_every=every, admit_wait_ms=wait_ms, batch_rows=batch_rows)
        self.settings = replace(self.settings, engine=engine)
        self.offered.reloads.append((self.pipeline.reload(engine, every), every))

    @property
    def idle(self) -> bool:
        """Nothing reaches persist, whatever is fed."""
        return not self.strategy.free.is_set() or self.strategy.broken.is_set()

    @property
    def locked(self) -> bool:
        return self._lock is not None

    def lock(self) -> None:
        """Lock the database from another connection."""
        if self._lock is None:
            self._lock = sqlite3.connect(self.db, isolation_level=None, timeout=20)
            self._lock.execute("BEGIN IMMEDIATE")

    def unlock(self) -> None:
        if self._lock is not None:
            self._lock.execute("ROLLBACK")
            self._lock.close()
            self._lock = None

    def stop(self) -> bool:
        """Stop as the engine does, quickly when the database is locked. Returns whether everything was stored."""
        self.strategy.free.set()
        pipeline_module.DRAIN_S = pipeline_module.STORE_S = 20.0 if self._lock is None else 0.05
        error = self.pipeline.drain(nothing)
        self.unlock()
        wait_until(lambda: not self.pipeline.persist.is_alive(), "the writer's end")
        wait_until(self._emptied, "the end of the stages in front of a writer that gave up")
        failure = self.pipeline.failure
        clean = error is None and failure is None
        self.store.end_run(0 if clean else 14, now_ms())
        self.store.close()
        return clean

    def _emptied(self) -> bool:
        # An engine process would end now; the test goes on, so it takes what the stages still want to hand over.
        self.pipeline.persist._inbox.take(0)
        return not any(stage.is_alive() for stage in self.pipeline.stages)

    def kill(self) -> Path:
        """Copy what a SIGKILL at this moment would leave. The lock keeps persist from writing meanwhile."""
        self.lock()
        self.copies += 1
        copy = self.db.with_name(f"copy{self.copies}.db")
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.db}{suffix}", f"{copy}{suffix}")
        self.unlock()
        return copy
