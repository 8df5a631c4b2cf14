"""When persist commits, and what it does while the database is locked or the disk fails."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.events import MarketTrade, Tick
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.stages.channel import HEARTBEAT_S
from hybrid_engine.stages.stage import REST_S
from hybrid_engine.storage.store import Store
from tests.support.accounting import check_finished, rows
from tests.support.pipeline import RunningStages, nothing
from tests.support.process import wait_until

CALM = EngineSettings(batch_rows=1000, flush_interval_ms=60_000.0, heartbeat_interval_secs=3600.0)


def market_trades(count: int) -> list[MarketTrade]:
    return [MarketTrade("X", 1.0 + n, 1.0, None, 1) for n in range(count)]


@pytest.mark.holds("RELOAD")
def test_batch_committed_by_rows_time_and_end(tmp_path: Path) -> None:
    pipeline = RunningStages(tmp_path / "x.db", settings=CALM, tick_capacity=500, persist_capacity=500)
    pipeline.admission.offer_trades("s", market_trades(5), 1, nothing)
    wait_until(lambda: pipeline.persist._batch.ticks[4:], "five ticks in the batch")
    assert rows(pipeline.db, "SELECT received FROM runs") == [(0,)]  # nothing is due yet
    for interval_ms in (90_000.0, 60_000.0):
        pipeline.persist.settings = replace(CALM, flush_interval_ms=interval_ms)
        assert pipeline.persist._due_at() - pipeline.persist._first_row_at == pytest.approx(interval_ms / 1000)
    pipeline.persist.settings = EngineSettings(batch_rows=1000, flush_interval_ms=1.0)
    wait_until(lambda: rows(pipeline.db, "SELECT ticks_stored FROM runs") == [(5,)], "a commit by time")
    pipeline.persist.settings = EngineSettings(batch_rows=10, flush_interval_ms=60_000.0)
    pipeline.admission.offer_trades("s", market_trades(30), 1, nothing)
    wait_until(lambda: rows(pipeline.db, "SELECT ticks_stored FROM runs")[0][0] > 5, "a commit by rows")
    pipeline.persist.settings = CALM
    pipeline.close()
    assert check_finished(pipeline.db)["ticks_stored"] == 35


@pytest.mark.parametrize(("age_ms", "counted_s"), [(60, 0.06), (-5000, 0.0), (86_400_000, REST_S)])
def test_flush_interval_counts_from_receipt(tmp_path: Path, age_ms: int, counted_s: float) -> None:
    """What waited in front of persist counts, but not a clock that was set, nor the age of replayed ticks."""
    pipeline = RunningStages(tmp_path / "x.db", settings=CALM)
    before = time.monotonic()
    pipeline.persist._add([Tick(1, "s", "X", 1.0, 1.0, None, 1, now_ms() - age_ms)])
    took_s = time.monotonic() - before
    assert before - counted_s - 0.002 <= pipeline.persist._first_row_at <= before + took_s - counted_s + 0.002
    pipeline.persist._batch.ticks.clear()
    pipeline.close()


def test_counters_stored_at_heartbeat_without_rows(tmp_path: Path) -> None:
    quiet = EngineSettings(sample_every=1, heartbeat_interval_secs=0.1, flush_interval_ms=60_000.0)
    pipeline = RunningStages(tmp_path / "x.db", settings=quiet, sample_every=1000)
    pipeline.admission.offer_trades("s", market_trades(7), 1, nothing)
    wait_until(lambda: rows(pipeline.db, "SELECT received, sampled_out FROM runs") == [(7, 7)], "the counters")
    pipeline.close()
    check_finished(pipeline.db)


def test_persist_waits_for_lock(tmp_path: Path) -> None:
    pipeline = RunningStages(tmp_path / "x.db")
    with closing(sqlite3.connect(pipeline.db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        pipeline.admission.offer_trades("s", market_trades(1), 1, nothing)
        wait_until(lambda: pipeline.counters.lock_waits > 2, "three tries")
        assert pipeline.persist.blocked_since is not None
        assert pipeline.persist.failing_since is None
        assert pipeline.counters.persist_errors == 0
        assert not pipeline.persist.stuck
        other.execute("COMMIT")
    wait_until(lambda: pipeline.persist.blocked_since is None, "the lock's end")
    pipeline.close()
    check_finished(pipeline.db)


class Broken(Store):
    """A store that cannot write while `broken` is set."""

    broken: threading.Event

    def write(self, *args: object) -> None:
        if self.broken.is_set():
            raise StorageError("the disk is full")
        super().write(*args)  # type: ignore[arg-type]


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    Broken.broken = threading.Event()
    monkeypatch.setattr("tests.support.pipeline.CheckedStore", Broken)
    return Broken.broken


@pytest.mark.holds("G5")
def test_persist_retries_until_storage_deadline(tmp_path: Path, breaking: threading.Event) -> None:
    settings = EngineSettings(storage_deadline_s=0.6, flush_interval_ms=1.0)
    pipeline = RunningStages(tmp_path / "x.db", settings=settings)
    breaking.set()
    start = time.monotonic()
    pipeline.admission.offer_trades("s", market_trades(1), 1, nothing)
    wait_until(lambda: pipeline.persist.failing_since is not None, "the failure")
    pipeline.persist.join(10)
    assert time.monotonic() - start >= 0.6
    assert isinstance(pipeline.persist.failure, StorageError)
    assert "the disk is full; for 0.6 s" in str(pipeline.persist.failure)
    assert 1 < pipeline.counters.persist_errors <= 0.6 / HEARTBEAT_S + 2  # one each HEARTBEAT_S, and none after it
    pipeline.close_store()


def test_persist_loses_nothing_when_disk_recovers(tmp_path: Path, breaking: threading.Event) -> None:
    pipeline = RunningStages(tmp_path / "x.db", settings=EngineSettings(flush_interval_ms=1.0), tick_capacity=50)
    breaking.set()
    pipeline.admission.offer_trades("s", market_trades(9), 1, nothing)
    pipeline.admission.count_loss("rejected", "s", "X", 1)
    wait_until(lambda: pipeline.counters.persist_errors > 1, "two failures")
    breaking.clear()
    wait_until(lambda: pipeline.persist.failing_since is None, "success")
    pipeline.close()
    assert check_finished(pipeline.db)["ticks_stored"] == 9


def test_give_up_ends_persist(tmp_path: Path, breaking: threading.Event) -> None:
    pipeline = RunningStages(tmp_path / "x.db", settings=EngineSettings(flush_interval_ms=1.0))
    breaking.set()
    pipeline.admission.offer_trades("s", market_trades(1), 1, nothing)
    wait_until(lambda: pipeline.counters.persist_errors > 0, "a failure")
    pipeline.persist.give_up.set()
    pipeline.persist.join(5)
    assert isinstance(pipeline.persist.failure, StorageError)
    pipeline.close_store()
