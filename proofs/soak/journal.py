"""Reads a unit's journal: how each run ended, how long the unit was down, what the engine reported. Pure."""

import re
from collections.abc import Iterable, Sequence

from proofs.host.unit import Entry
from proofs.soak.exit_table import Exit
from proofs.verdict import Json

# Message ids of systemd's catalogue (sd-messages.h): a unit has started; systemd begins to stop a unit.
UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"
UNIT_STOPPING = "de5b426a63be47a7b6ac3eaac82e2f6f"
_EXITED = re.compile(r"Main process exited, code=(\w+), status=(\d+)")
_RESTART = re.compile(r"Scheduled restart job")
DECISION = "pressure decision"
_REPORTS = ("HEARTBEAT", "FINAL METRICS", DECISION)


def split(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Entries that are complete, and those that have to wait: systemd writes the result of an exit in a later line."""
    with_result = {entry.invocation for entry in entries if entry.unit_result}
    for number, entry in enumerate(entries):
        if _EXITED.search(entry.message) and entry.invocation not in with_result:
            return list(entries[:number]), list(entries[number:])
    return list(entries), []


def exits(entries: Iterable[Entry]) -> list[Exit]:
    """How main processes ended, in order. systemd writes no line about a clean exit."""
    entries = list(entries)
    results = {entry.invocation: entry.unit_result for entry in entries if entry.unit_result}
    ends = []
    for entry in entries:
        if match := _EXITED.search(entry.message):
            status = int(match[2]) if match[1] == "exited" else -int(match[2])
            ends.append(Exit(entry.invocation, status, results.get(entry.invocation, "")))
    return ends


def restarts(entries: Iterable[Entry]) -> int:
    """How often systemd restarted the unit by itself."""
    return sum(1 for entry in entries if _RESTART.search(entry.message))


def away_s(entries: Iterable[Entry], from_s: float, to_s: float) -> float:
    """Seconds between two moments of CLOCK_MONOTONIC in which the unit was not up; at the first it was."""
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
    """The fields of the engine's heartbeats, final metrics and pressure decisions, in order."""
    fields = (entry.fields() for entry in entries)
    return [one for one in fields if one.get("message") in _REPORTS]


def worst(fields: Iterable[dict[str, Json]]) -> dict[str, float | None]:
    """The worst avg10 of the unit's own pressure that the engine reported, by kind; None: unknown."""
    maxima: dict[str, float | None] = {"cpu": None, "memory": None, "io": None}
    for report in fields:
        for kind, most in maxima.items():
            value = report.get(f"psi_{kind}_worst")
            if isinstance(value, int | float):
                maxima[kind] = max(float(value), most or 0.0)
    return maxima
