"""What the soak controller does about each way in which the engine can end. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum


class Response(StrEnum):
    STOP = "stop"
    LET = "let systemd restart"  # and give up when no run holds
    MOCK = "the mock exchange"  # once it is repeated; until then as LET
    STEP = "one step up the ladder"
    ABORT = "abort"


# The interface of the engine's exit codes; whatever is not here is a bug.
EXITS: dict[int, tuple[str, Response]] = {
    0: ("COMPLETE", Response.STOP),
    1: ("BUG", Response.ABORT),
    10: ("NETWORK", Response.LET),
    11: ("PARSE", Response.MOCK),
    12: ("CONFIG", Response.ABORT),
    13: ("OVERLOAD", Response.STEP),
    14: ("STORAGE", Response.ABORT),
}
# sample_every and what that step is called; the same steps as the engine's own ladder.
LADDER = ((1, "NORMAL"), (5, "THROTTLE1"), (10, "THROTTLE2"), (20, "THROTTLE3"))
REPEATED = 2  # exits 11 without a run that held between them
TRIES = 3  # ends without a run that held between them: it never holds


@dataclass(frozen=True)
class Exit:
    """How a main process ended. status: negative for a signal, None where the journal does not tell. result: systemd's
    word for it."""

    invocation: str
    status: int | None
    result: str = ""

    @property
    def cause(self) -> str:
        """One word for it, by which restarts are counted.

        >>> Exit("", 13).cause, Exit("", 77).cause, Exit("", -9).cause, Exit("", -6, "watchdog").cause
        ('OVERLOAD', 'BUG', 'SIGKILL', 'WATCHDOG')
        """
        if self.result == "watchdog":
            return "WATCHDOG"
        if self.result == "oom-kill":
            return "OOM"
        if self.status is None:
            return "UNKNOWN"
        if self.status < 0:
            return signal.Signals(-self.status).name if -self.status in set(signal.Signals) else "SIGNAL"
        return EXITS.get(self.status, EXITS[1])[0]

    @property
    def response(self) -> Response:
        """A process that was killed is systemd's to restart, as 10 is: it said nothing that could be decided upon."""
        if self.status is None or self.status < 0 or self.result in ("watchdog", "oom-kill"):
            return Response.LET
        return EXITS.get(self.status, EXITS[1])[1]

    @property
    def told(self) -> str:
        return self.cause if self.status is None or self.status < 0 else f"{self.status} {self.cause}"


def next_step(sample_every: int) -> int | None:
    """The first step above this sampling; None at the top.

    >>> next_step(1), next_step(7), next_step(20)
    (5, 10, None)
    """
    return next((every for every, _ in LADDER if every > sample_every), None)


def step_name(sample_every: int) -> str:
    """What the highest step that this sampling reaches is called.

    >>> step_name(1), step_name(7), step_name(100)
    ('NORMAL', 'THROTTLE1', 'THROTTLE3')
    """
    return [name for every, name in LADDER if every <= max(1, sample_every)][-1]
