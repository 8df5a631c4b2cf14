"""How runs of the engine ended, by the unit's journal, and how the soak responds to each kind of end. Pure."""

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from proofs.host.unit import Entry
from proofs.verdict import Json


class Response(StrEnum):
    STOP = "stop"
    LET = "let systemd restart"  # and give up when no run holds
    MOCK = "the mock exchange"  # once it is repeated; until then as LET
    STEP = "one step up the ladder"
    ABORT = "abort"


# The engine's exit codes, which a test compares with its own table; any other code is a bug.
EXITS: dict[int, tuple[str, Response]] = {
    0: ("COMPLETE", Response.STOP),
    1: ("BUG", Response.ABORT),
    10: ("NETWORK", Response.LET),
    11: ("PARSE", Response.MOCK),
    12: ("CONFIG", Response.ABORT),
    13: ("OVERLOAD", Response.STEP),
    14: ("STORAGE", Response.ABORT),
}
# sample_every and the name of that step: the engine's own ladder, with which a test compares it.
LADDER = ((1, "NORMAL"), (5, "THROTTLE1"), (10, "THROTTLE2"), (20, "THROTTLE3"))
_KILLED = {"watchdog": "WATCHDOG", "oom-kill": "OOM"}  # systemd's `Result=` of what has no status of its own
REPEATED = 2  # exits with 11, without a run between them that held
TRIES = 3  # exits and stalls without a run between them that held, after which the soak gives up


@dataclass(frozen=True)
class Exit:
    """How a main process ended.

    status: exit status, negative for a signal, None where the journal does not show it. result: systemd's `Result=`.
    """

    invocation: str
    status: int | None
    result: str = ""

    @property
    def cause(self) -> str:
        """The name under which restarts are counted.

        >>> Exit("", 13).cause, Exit("", 77).cause, Exit("", -9).cause, Exit("", -6, "watchdog").cause
        ('OVERLOAD', 'BUG', 'SIGKILL', 'WATCHDOG')
        """
        return self._row[0]

    @property
    def response(self) -> Response:
        """What the soak does about it."""
        return self._row[1]

    @property
    def _row(self) -> tuple[str, Response]:
        """Cause and response. A process that was killed is restarted by systemd, as after 10."""
        if self.result in _KILLED:
            return _KILLED[self.result], Response.LET
        if self.status is None:
            return "UNKNOWN", Response.LET
        if self.status >= 0:
            return EXITS.get(self.status, EXITS[1])
        return signal.Signals(-self.status).name if -self.status in set(signal.Signals) else "SIGNAL", Response.LET

    @property
    def label(self) -> str:
        """Status and cause, as in "13 OVERLOAD"; the cause alone where there is no status."""
        return self.cause if self.status is None or self.status < 0 else f"{self.status} {self.cause}"


def next_step(sample_every: int) -> int | None:
    """The first step above this sampling; None at the top.

    >>> next_step(1), next_step(7), next_step(20)
    (5, 10, None)
    """
    return next((every for every, _ in LADDER if every > sample_every), None)


def step_name(sample_every: int) -> str:
    """The name of the highest step that this sampling reaches.

    >>> step_name(1), step_name(7), step_name(100)
    ('NORMAL', 'THROTTLE1', 'THROTTLE3')
    """
    return [name for every, name in LADDER if every <= max(1, sample_every)][-1]


# Message ids of systemd's catalogue (sd-messages.h): a unit has started; systemd begins to stop a unit.
UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"
UNIT_STOPPING = "de5b426a63be47a7b6ac3eaac82e2f6f"
_EXITED = re.compile(r"Main process exited, code=(\w+), status=(\d+)")
DECISION = "pressure decision"
_REPORTS = ("HEARTBEAT", "FINAL METRICS", DECISION)


def split(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Entries that are complete, and those that have to wait: systemd writes the result of an exit in a later line."""
    with_result = {entry.invocation for entry in entries if entry.unit_result}
    waiting = (n for n, one in enumerate(entries) if _EXITED.search(one.message) and one.invocation not in with_result)
    first = next(waiting, len(entries))
    return list(entries[:first]), list(entries[first:])


def exits(entries: Sequence[Entry]) -> list[Exit]:
    """How main processes ended, in order. systemd writes no line about a clean exit."""
    results = {entry.invocation: entry.unit_result for entry in entries if entry.unit_result}
    ends = [(entry.invocation, match.groups()) for entry in entries if (match := _EXITED.search(entry.message))]
    return [
        Exit(invocation, int(status) if code == "exited" else -int(status), results.get(invocation, ""))
        for invocation, (code, status) in ends
    ]


def restarts(entries: Iterable[Entry]) -> int:
    """How often systemd restarted the unit by itself."""
    return sum("Scheduled restart job" in entry.message for entry in entries)


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
    return [fields for entry in entries if (fields := entry.fields()).get("message") in _REPORTS]


def worst(fields: Sequence[dict[str, Json]]) -> dict[str, float | None]:
    """The worst avg10 of the unit's own pressure that the engine reported, by kind; None: unknown."""
    reported = {kind: [one.get(f"psi_{kind}_worst") for one in fields] for kind in ("cpu", "memory", "io")}
    numbers = {kind: [float(n) for n in values if isinstance(n, int | float)] for kind, values in reported.items()}
    return {kind: max(values, default=None) for kind, values in numbers.items()}
