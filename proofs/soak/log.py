"""The file of a soak's decisions, one a line; each is an event of the recording too."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from proofs.evidence.atomic_file import write_atomically
from proofs.verdict import Json

DECISIONS = "decisions.jsonl"
_IN_FORCE = ("ingest_mode", "psi_actions", "state", "current_sample_every")
FIELDS = ("timestamp", "run_id", *_IN_FORCE, "action", "reason", "psi", "host_psi")


def line_of(decision: Mapping[str, Json]) -> str:
    """A decision as a line of its file: these fields in this order."""
    return json.dumps({name: decision[name] for name in FIELDS}) + "\n"


def append(folder: Path, decision: Mapping[str, Json]) -> None:
    with (folder / DECISIONS).open("a") as file:
        file.write(line_of(decision))


def rewrite(folder: Path, events: Sequence[Mapping[str, Json]]) -> Path | None:
    """Write decisions.jsonl from a run's recording; None where that has no decision of a soak."""
    lines = [line_of(event["data"]) for event in events if event["kind"] == "decision"]
    if not lines:
        return None
    write_atomically(folder / DECISIONS, "".join(lines).encode())
    return folder / DECISIONS
