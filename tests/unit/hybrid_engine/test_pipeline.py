"""The pipeline knows each of its stages: which is stuck, which failed first, and whom a reload concerns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_engine.config.load import Config
from hybrid_engine.config.settings import EngineSettings, Settings
from hybrid_engine.pipeline import Pipeline
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.stages.adapter import WITHOUT_NETWORK
from hybrid_engine.stages.strategy import Periodic
from hybrid_engine.storage.store import Store
from tests.support.pipeline import INFO, nothing
from tests.support.process import wait_until

STAGES = ("ingest", "strategy", "execution", "persist")


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    store = Store(tmp_path / "x.db")
    store.begin_run(INFO, now_ms())
    config = Config(Settings(engine=EngineSettings(tick_interval_ms=5)), {}, (), Path())
    made = Pipeline(config, store, Periodic(2), WITHOUT_NETWORK["SHADOW"], nothing)
    yield made
    made.drain(nothing)
    store.close()


@pytest.mark.holds("WATCHDOG")
@pytest.mark.parametrize("number", range(4))
def test_each_stuck_stage_is_named(pipeline: Pipeline, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = pipeline.stages[number]
    wait_until(lambda: pipeline.counters.ticks_stored > 2, "ticks")
    assert pipeline.stuck_stages == []
    monkeypatch.setattr(stage, "heartbeat", nothing)
    wait_until(lambda: pipeline.stuck_stages, "the stuck stage")
    assert pipeline.stuck_stages == [STAGES[number]]


@pytest.mark.parametrize("number", range(4))
def test_failure_nearest_to_the_sources_is_told(
    pipeline: Pipeline, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pipeline.failure is None
    for stage in pipeline.stages[number:]:
        monkeypatch.setattr(stage, "failure", ValueError(stage.name))
    assert str(pipeline.failure) == STAGES[number]


@pytest.mark.holds("RELOAD")
def test_reload_reaches_ingest_persist_and_sampling(pipeline: Pipeline) -> None:
    before = pipeline.persist.settings
    settings = replace(before, batch_rows=7, flush_interval_ms=3.0, admit_wait_ms=9.0)
    received = pipeline.reload(settings, 3)
    assert pipeline.ingest.settings is pipeline.persist.settings is settings
    assert pipeline.admission._sample_every == 3
    assert pipeline.admission._admit_wait_s == 0.009
    assert 0 <= received <= pipeline.admission.snapshot().received
