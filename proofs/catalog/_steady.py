"""The steady state that most proofs start from: the unit runs on a scratch config and stores ticks."""

from __future__ import annotations

from proofs.experiment.subject import Subject, config

GOOD = config(ingest_mode="SYNTHETIC", tick_interval_ms=20, flush_interval_ms=100, heartbeat_interval_secs=1)
STEADY_TICKS = 10
UP_S = 15.0  # how long a start may take before it counts as "no steady state"


def steady(subject: Subject, text: str = GOOD) -> None:
    """The unit runs on that scratch config and stores ticks."""
    subject.put("config.toml", text)
    before = subject.store.last_tick()
    subject.restart(check=False)
    subject.host.wait_for(f"{subject.unit.name} running", UP_S, lambda: subject.unit.state().running)
    subject.host.wait_for(
        "ticks being stored", UP_S, lambda: subject.store.last_tick() >= before + STEADY_TICKS, every=0.05
    )
