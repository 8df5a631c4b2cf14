"""The log of a soak's decisions: each is a line of decisions.jsonl and an event of the recording."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from proofs.evidence.atomic_file import write_atomically
from proofs.evidence.recorder import utc_now
from proofs.host.shell import Host
from proofs.soak.controller import Decision
from proofs.soak.exit_table import step_name
from proofs.soak.observer import Observer
from proofs.verdict import Json

DECISIONS = "decisions.jsonl"
FIELDS = (
    "timestamp",
    "run_id",
    "ingest_mode",
    "psi_actions",
    "state",
    "current_sample_every",
    "action",
    "reason",
    "psi",
    "host_psi",
)


def line_of(decision: Mapping[str, Json]) -> str:
    """A decision as a line of its file: these fields in this order."""
    return json.dumps({name: decision[name] for name in FIELDS}) + "\n"


def rewrite(folder: Path, events: Sequence[Mapping[str, Json]]) -> Path | None:
    """Write decisions.jsonl from a run's recording; None where that has no decision of a soak."""
    lines = [line_of(event["data"]) for event in events if event["kind"] == "decision"]
    if not lines:
        return None
    write_atomically(folder / DECISIONS, "".join(lines).encode())
    return folder / DECISIONS


class Log:
    """say: prints a line of progress."""

    def __init__(self, host: Host, say: Callable[[str], None]) -> None:
        self._host, self._say = host, say
        self._folder = host.recorder.path.parent

    def write(self, decision: Decision, sample_every: int, mode: str, psi_actions: str, observer: Observer) -> None:
        """Record a decision with what is in force.

        observer: the pressure of its last look is recorded where the decision is not the engine's own.
        """
        psi, host_psi = observer.pressure_lines()
        if decision.pressure:
            psi, host_psi = decision.pressure["psi"], decision.pressure["host_psi"]
        every = max(sample_every, observer.sample_every or 1)
        line: dict[str, Json] = {
            "timestamp": utc_now(),
            "run_id": self._folder.name,
            "ingest_mode": mode,
            "psi_actions": psi_actions,
            "state": step_name(every),
            "current_sample_every": every,
            "action": decision.action,
            "reason": decision.reason,
            "psi": psi,
            "host_psi": host_psi,
        }
        recorded = self._host.note("decision", line)
        with (self._folder / DECISIONS).open("a") as file:
            file.write(line_of(recorded))
        self.say(f"{decision.action}: {decision.reason}")

    def say(self, text: str) -> None:
        self._say(f"soak: {text}")
