"""How far a setting may go before a guarantee of docs/guarantees.md no longer holds.

A value beyond such a limit is valid: the engine runs with it, and `config check` says which guarantee it makes void.
LIVE is refused. The proofs run on settings of their own, so they cannot show what such a value does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Limit:
    """guarantee: its name. holds: the lowest and the highest value with which it holds, or the only one."""

    key: str
    guarantee: str
    holds: tuple[float, float] | str

    def allows(self, value: Any) -> bool:
        if isinstance(self.holds, str):
            return bool(value == self.holds)
        return bool(self.holds[0] <= value <= self.holds[1])

    def __str__(self) -> str:
        if isinstance(self.holds, str):
            return f"only with {_show(self.holds)}"
        return f"from {self.holds[0]:.15g} to {self.holds[1]:.15g}"


LIMITS = (
    # An outage is over for nobody who is told of it the next day; one that ends at once ends before a second source
    # can be connected.
    Limit("engine.network_deadline_s", "G5", (5, 600)),
    Limit("engine.parse_error_limit", "G5", (1, 1000)),
    Limit("engine.storage_deadline_s", "G5", (1, 60)),
    Limit("engine.overload_after_s", "G5", (2, 60)),
    Limit("engine.dead_after_s", "FAILOVER", (0.5, 60)),
    Limit("engine.stale_after_s", "STALE", (0.5, 600)),
    Limit("engine.failback_after_s", "FAILBACK", (5, 3600)),
    Limit("engine.admit_wait_ms", "I6", (0, 250)),
    # A tick is stored at the latest after it; a start has 10 s to store its first.
    Limit("engine.flush_interval_ms", "REBOOT", (1, 5000)),
    # What waits is drained within 5 s, and fits into the unit's memory.
    Limit("engine.batch_rows", "S13", (1, 10_000)),
    Limit("channels.tick", "S13", (1, 65_536)),
    Limit("channels.signal", "S13", (2, 65_536)),
    Limit("channels.persist", "S13", (4, 65_536)),
    Limit("engine.psi_actions", "G2", "on"),
    Limit("engine.psi_path", "G2", ""),
    Limit("engine.psi_cpu_limit", "G2", (1, 90)),
    Limit("engine.psi_memory_limit", "G2", (1, 90)),
    Limit("engine.psi_io_limit", "G2", (1, 90)),
    Limit("engine.psi_trip_s", "G2", (0, 300)),
    Limit("engine.psi_calm_s", "G2", (0, 3600)),
    Limit("engine.psi_cooldown_s", "G2", (0, 600)),
    Limit("engine.heartbeat_interval_secs", "G4", (0.1, 60)),
)
# The rows of a run that is to be replayed have to be there: 0 keeps all of them.
LEAST_RETENTION = Limit("engine.retention_days", "REPLAY", (1, 36_500))


def void_guarantees(values: Mapping[str, Any]) -> list[str]:
    """Each value that makes a guarantee void: "GUARANTEE: KEY = VALUE, and it holds ..."."""
    limits = (*LIMITS, LEAST_RETENTION) if values[LEAST_RETENTION.key] else LIMITS
    beyond = [(limit, values[limit.key]) for limit in limits if not limit.allows(values[limit.key])]
    return [f"{limit.guarantee}: {limit.key} = {_show(value)}, and it holds {limit}" for limit, value in beyond]


def _show(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else f"{value:.15g}"
