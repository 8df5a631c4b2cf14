"""What the journal tells of a unit's runs: how each ended, how long it was away, what the engine decided. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from proofs.host.unit import UNIT_STARTING, Entry
from proofs.soak.exit_table import Exit
from proofs.verdict import Json

# systemd's catalogue (sd-messages.h): a unit is up, and systemd begins to stop one.
UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"
UNIT_STOPPING = "de5b426a63be47a7b6ac3eaac82e2f6f"
_EXITED = re.compile(r"Main process exited, code=(\w+), status=(\d+)")
_AGAIN = re.compile(r"Scheduled restart job")
DECISION = "pressure decision"
_BEATS = ("HEARTBEAT", "FINAL METRICS", DECISION)


def split(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """What can be read now, and what has to wait: systemd says in a later line what an exit counts as."""
    told = {entry.invocation for entry in entries if entry.unit_result}
    for number, entry in enumerate(entries):
        if _EXITED.search(entry.message) and entry.invocation not in told:
            return list(entries[:number]), list(entries[number:])
    return list(entries), []


def exits(entries: Iterable[Entry]) -> list[Exit]:
    """How main processes ended that did not end well; a clean exit is not worth a line to systemd."""
    entries = list(entries)
    results = {entry.invocation: entry.unit_result for entry in entries if entry.unit_result}
    found = []
    for entry in entries:
        if match := _EXITED.search(entry.message):
            status = int(match[2]) if match[1] == "exited" else -int(match[2])
            found.append(Exit(entry.invocation, status, results.get(entry.invocation, "")))
    return found


def starts(entries: Iterable[Entry]) -> list[str]:
    return [entry.invocation for entry in entries if entry.message_id == UNIT_STARTING]


def restarts(entries: Iterable[Entry]) -> int:
    """How often systemd restarted it by itself."""
    return sum(1 for entry in entries if _AGAIN.search(entry.message))


def away_s(entries: Iterable[Entry], from_s: float, to_s: float) -> float:
    """Seconds of CLOCK_MONOTONIC between these two in which the unit was not up; it was when they begin."""
    away, since = 0.0, None
    for entry in entries:
        if entry.mono_s > to_s:
            break
        ends = bool(_EXITED.search(entry.message)) or entry.message_id == UNIT_STOPPING
        if ends and since is None:
            since = max(entry.mono_s, from_s)
        elif entry.message_id == UNIT_STARTED and since is not None:
            away, since = away + entry.mono_s - since, None
    return round(away + (to_s - since if since is not None else 0.0), 3)


def engine_fields(entries: Iterable[Entry]) -> list[dict[str, Json]]:
    """The engine's own figures and decisions of pressure, in their order."""
    fields = (entry.fields() for entry in entries)
    return [one for one in fields if one.get("message") in _BEATS]


def worst(fields: Iterable[dict[str, Json]]) -> dict[str, float | None]:
    """The worst avg10 of the unit's own pressure that the engine told, by kind; None: unknown."""
    found: dict[str, float | None] = {"cpu": None, "memory": None, "io": None}
    for one in fields:
        for kind, most in found.items():
            value = one.get(f"psi_{kind}_worst")
            if isinstance(value, int | float):
                found[kind] = max(float(value), most or 0.0)
    return found
