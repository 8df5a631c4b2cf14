"""The exit table: how the soak responds to each way in which the engine can end. Pure."""

import signal
from dataclasses import dataclass
from enum import StrEnum


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
        """What the soak does about it. A process that was killed is restarted by systemd, as after 10."""
        if self.status is None or self.status < 0 or self.result in ("watchdog", "oom-kill"):
            return Response.LET
        return EXITS.get(self.status, EXITS[1])[1]

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
