"""Looks of a soak as a test tells them: a unit that runs, ends, comes again, with ticks or without."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from proofs.soak.controller import Controller, Decision, Observation
from proofs.soak.exit_table import Exit

STALL_S = 10.0


def controller(**changes: Any) -> Controller:
    made = Controller(**{"seconds": 1000.0, "stall_s": STALL_S, "mock": False, "sample_every": 1, **changes})
    made.newest = "run-0"
    return made


@dataclass
class Looks:
    """One look a second at an engine that stores a tick between two looks, until a test says otherwise."""

    of: Controller = field(default_factory=controller)
    run: int = 0
    at_s: float = 0.0
    tick: int = 100

    def seen(self, **changes: Any) -> Observation:
        self.at_s += 1
        self.tick += 1
        healthy = Observation(
            self.at_s, "active", f"run-{self.run}", True, tick=self.tick, frame_age_s=0.1, counters_age_s=0.1
        )
        return replace(healthy, **changes)

    def look(self, **changes: Any) -> list[Decision]:
        return self.of.decide(self.seen(**changes))

    def ends(self, status: int | None, result: str = "exit-code", **changes: Any) -> list[Decision]:
        """The run ends so, and systemd has started the next by the time of the look."""
        ended = Exit(f"run-{self.run}", status, result)
        self.run += 1
        return self.look(**{"exits": [ended], "started": [f"run-{self.run}"], **changes})

    def hold(self) -> None:
        """Let the run last until it has held."""
        for _ in range(int(STALL_S) + 2):
            assert self.look() == []


def actions(decisions: list[Decision]) -> list[str]:
    return [decision.action for decision in decisions]
