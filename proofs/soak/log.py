"""The decisions of a soak, each a JSON line of the run and an event of its evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from proofs.evidence.folder import replace_file
from proofs.evidence.recorder import utc_now
from proofs.host.shell import Host
from proofs.soak.controller import Decision
from proofs.soak.exit_table import step_name
from proofs.soak.observer import Watch
from proofs.verdict import Json

DECISIONS = "decisions.jsonl"


FIELDS = (
    "timestamp", "run_id", "ingest_mode", "psi_actions", "state", "current_sample_every", "action", "reason", "psi",
    "host_psi",
)  # fmt: skip


def line_of(decision: Mapping[str, Json]) -> str:
    """A decision as a line of its file: these fields in this order."""
    return json.dumps({name: decision[name] for name in FIELDS}) + "\n"


def rewrite(folder: Path, events: Sequence[Mapping[str, Json]]) -> Path | None:
    """Make the file of a run's decisions from its recording; None where that is none of a soak."""
    lines = [line_of(event["data"]) for event in events if event["kind"] == "decision"]
    if not lines:
        return None
    replace_file(folder / DECISIONS, "".join(lines).encode())
    return folder / DECISIONS


class Log:
    """mode and psi_actions: what is in force. say: prints a line of progress."""

    def __init__(self, host: Host, say: Callable[[str], None], mode: str, psi_actions: str) -> None:
        self._host, self._say = host, say
        self._folder = host.recorder.path.parent
        self.mode, self.psi_actions = mode, psi_actions

    def write(self, decision: Decision, sample_every: int, watch: Watch) -> None:
        """watch: whose last look the raw lines of pressure are of, where they are not the engine's own."""
        psi, host_psi = watch.pressure_lines()
        if decision.pressure:
            psi, host_psi = decision.pressure["psi"], decision.pressure["host_psi"]
        every = max(sample_every, watch.sample_every or 1)
        line: dict[str, Json] = {
            "timestamp": utc_now(), "run_id": self._folder.name, "ingest_mode": self.mode,
            "psi_actions": self.psi_actions, "state": step_name(every), "current_sample_every": every,
            "action": decision.action, "reason": decision.reason, "psi": psi, "host_psi": host_psi,
        }  # fmt: skip
        recorded = self._host.note("decision", line)
        with (self._folder / DECISIONS).open("a") as file:
            file.write(line_of(recorded))
        self.say(f"{decision.action}: {decision.reason}")

    def say(self, text: str) -> None:
        self._say(f"soak: {text}")
