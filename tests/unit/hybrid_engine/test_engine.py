"""When overload ends a run: after its own deadline, and not in the place of a better reason."""

from __future__ import annotations

import time
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
    engine = object.__new__(Engine)
    settings = Settings(engine=EngineSettings(overload_after_s=LIMIT_S))
    engine._config = cast(Any, SimpleNamespace(settings=settings))
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
    if not reason:
        engine._check_overload(cast(Pipeline, pipeline))
        return
    with pytest.raises(OverloadError, match=reason):
        engine._check_overload(cast(Pipeline, pipeline))
