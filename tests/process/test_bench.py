"""The benchmark's own checks: every frame is stored, and each peer runs in each round. No figure is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import race, sending
from tests.benchmarks.cost import run_peer
from tests.benchmarks.sample import MAX_VALUES, Sample
from tests.benchmarks.steady import steady
from tests.benchmarks.usage import slope


@pytest.fixture(autouse=True)
def no_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy with other tests, a stage may wait for longer than in a benchmark."""
    monkeypatch.setenv("HYBRID_ENGINE__ENGINE__ADMIT_WAIT_MS", "1000")


def test_round_of_each_peer_reports_its_figures() -> None:
    result = race.race(count=1000, rounds=1)
    assert (result["frames"], result["rounds"]) == (1000, 1)
    for peer in (race.ENGINE, race.BARE):
        assert 0 < result[peer]["least"] <= result[peer]["median_per_second"] <= result[peer]["most"]
    assert result[f"{race.ENGINE} : {race.BARE}"]["median"] > 0


def test_round_with_a_lost_frame_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "DEADLINE_S", 2.0)
    words, variables = race.command(race.BARE, "URL", race.HERE, 10, None)
    monkeypatch.setattr(
        race,
        "command",
        lambda peer, url, database, count, _: ([*words[:2], url, str(database), str(count - 1)], variables),
    )
    with pytest.raises(race.Void, match="not every frame was stored"):
        race.run_peer(race.BARE, 10)


def test_steady_rate_reports_latencies_and_stores_every_frame() -> None:
    result = steady(rate=500, seconds=2)
    assert (result["sent"], result["stored"], result["dropped"]) == (1000, 1000, 0)
    for name, count in (("decided_us", 100), ("committed_us", 2)):
        times = result[name]
        assert times["n"] >= count
        assert 0 < times["p50"] <= times["p99"] <= times["max"]
    assert result["decided_us"]["n"] == 100  # an order for each tenth tick
    assert 10 < result["peak_mb"] < 500
    assert result["cpu_share"] > 0


def test_cost_of_a_tick_is_measured() -> None:
    cost = run_peer(race.ENGINE, 200.0, 2.0, Path("no cryptofeed"))
    assert 0 < cost.cpu < 100
    assert 50 < cost.written < 50_000


def test_fan_out_stores_every_source() -> None:
    assert race.run_fan_out(sources=3, count=3000)["rows"] == 3000


def test_engine_that_does_not_start_ends_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_ENGINE__ENGINE__ADMIT_WAIT_MS", "no number")
    monkeypatch.setattr(sending, "CONNECT_TIMEOUT_S", 2.0)
    with pytest.raises(RuntimeError, match="the sender printed nothing for 2 s"):
        steady(rate=500, seconds=2)


def test_sample_stays_small() -> None:
    sample = Sample()
    assert sample.figures() == {"n": 0}
    for value in range(1000, 0, -1):
        sample.add(value)
    assert sample.figures() == {"n": 1000, "p50": 500, "p99": 990, "max": 1000}
    for value in range(100 * MAX_VALUES - 1000, 0, -1):
        sample.add(value)
    assert len(sample._values) < MAX_VALUES
    figures = sample.figures()
    assert (figures["n"], figures["max"]) == (100 * MAX_VALUES, 100 * MAX_VALUES - 1000)
    assert figures["p50"] == pytest.approx(50 * MAX_VALUES, rel=0.01)
    assert figures["p99"] == pytest.approx(99 * MAX_VALUES, rel=0.01)


def test_slope_of_growth() -> None:
    assert slope([(0, 5.0), (1, 7.0), (2, 9.0)]) == pytest.approx(2.0)
    assert slope([(3, 1.0)]) == 0
