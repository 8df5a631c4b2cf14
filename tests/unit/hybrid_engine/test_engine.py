"""When overload ends a run: after its own deadline, and not in the place of a better reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hybrid_engine.config.settings import EngineSettings, Settings
from hybrid_engine.engine import Engine
from hybrid_engine.pipeline import Pipeline
from hybrid_engine.runtime.errors import OverloadError

LIMIT_S = 10.0


@pytest.mark.holds("G5")
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({}, ""),
        ({"dropping_s": LIMIT_S - 0.1}, ""),
        ({"dropping_s": LIMIT_S}, "the tick buffer stayed full"),
        ({"blocked_s": LIMIT_S - 0.1}, ""),
        ({"blocked_s": LIMIT_S}, "blocked by a lock"),
        ({"blocked_s": LIMIT_S, "dropping_s": LIMIT_S}, "blocked by a lock"),
        ({"dropping_s": LIMIT_S, "failing": True}, ""),  # the storage deadline ends it
        ({"dropping_s": LIMIT_S, "stuck": ["strategy"], "watchdog_s": 10.0}, ""),  # the watchdog ends it
        ({"dropping_s": LIMIT_S, "stuck": ["strategy"]}, "the tick buffer stayed full"),
        ({"dropping_s": LIMIT_S, "watchdog_s": 10.0}, "the tick buffer stayed full"),
    ],
    ids=str,
)
def test_overload_ends_the_run_after_its_deadline(state: dict[str, Any], reason: str) -> None:
    engine, pipeline = overloaded(state)
    if not reason:
        engine._check_overload(pipeline)
        return
    with pytest.raises(OverloadError, match=reason):
        engine._check_overload(pipeline)


def overloaded(state: dict[str, Any]) -> tuple[Engine, Pipeline]:
    engine = object.__new__(Engine)
    settings = Settings(engine=EngineSettings(overload_after_s=LIMIT_S))
    engine._config = cast(Any, SimpleNamespace(settings=settings))
    engine._checked_at = engine._measured_from = 0.0
    engine._notifier = cast(Any, SimpleNamespace(watchdog_s=state.get("watchdog_s")))
    blocked_s = state.get("blocked_s")
    pipeline = SimpleNamespace(
        persist=SimpleNamespace(
            blocked_since=None if blocked_s is None else time.monotonic() - blocked_s,
            failing_since=1.0 if state.get("failing") else None,
        ),
        stuck_stages=state.get("stuck", []),
        admission=SimpleNamespace(dropping_for_s=lambda: state.get("dropping_s", 0.0)),
    )
    return engine, cast(Pipeline, pipeline)


def ends_after(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, Any], excuse: Callable[[float], dict[str, Any]]
) -> float:
    """When the run ends whose every second has a drop, with that excuse at each moment; checked each 0.25 s."""
    now = [1000.0]
    monkeypatch.setattr("hybrid_engine.engine.time", SimpleNamespace(monotonic=lambda: now[0]))
    engine, _ = overloaded(state)
    engine._checked_at = engine._measured_from = now[0]
    while now[0] < 1000 + 20 * LIMIT_S:
        now[0] += 0.25
        since_s = now[0] - 1000.0
        try:
            engine._check_overload(overloaded({**state, "dropping_s": since_s, **excuse(since_s)})[1])
        except OverloadError:
            return since_s
    return float("inf")


@pytest.mark.holds("G5")
def test_measure_begins_anew_once_the_disk_works_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = ends_after(monkeypatch, {}, lambda since_s: {"failing": since_s <= 1.5 * LIMIT_S})
    assert ended == 2.5 * LIMIT_S


@pytest.mark.holds("G5")
def test_time_between_two_hangs_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs_at_each_second_check(since_s: float) -> dict[str, Any]:
        return {"stuck": ["strategy"] if since_s % 0.5 else []}

    assert ends_after(monkeypatch, {"watchdog_s": 10.0}, hangs_at_each_second_check) == 2 * LIMIT_S
