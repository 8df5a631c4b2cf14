"""What the soak decides from what it sees: a state machine without a clock, a file or a process of its own.

systemd alone restarts after an exit, and the engine alone owns the ladder of pressure. What is left is here: when to
stop waiting for a run that holds, what to do about exits that a restart cannot mend, and a standstill of the data that
the watchdog does not see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from proofs.soak.exit_table import REPEATED, TRIES, Exit, Response, next_step
from proofs.verdict import Json


class Does(StrEnum):
    """What has to be done about a decision, beside writing it down."""

    NOTHING = "nothing"
    RESTART = "restart"
    SAMPLE = "sample"  # put the controller's sample_every in force
    MOCK = "mock"  # the mock exchange, on a scratch database
    END = "end"


@dataclass(frozen=True)
class Decision:
    """pressure: the engine's own decision that this passes on, else None."""

    action: str
    reason: str
    does: Does = Does.NOTHING
    pressure: Json = None


@dataclass(frozen=True)
class Seen:
    """One look. Times in seconds; `exits` and `started` (invocations) are those since the last look, in their order.

    lost: restarts that NRestarts counts and the journal does not tell of. busy: systemd has a job for the unit.
    feed_down: the engine itself knows that no source is there, and has its own deadline for that.
    """

    at_s: float
    active: str
    invocation: str
    running: bool
    busy: bool = False
    exits: Sequence[Exit] = ()
    started: Sequence[str] = ()
    lost: int = 0
    pressure: Sequence[dict[str, Json]] = ()
    tick: int = 0
    frame_age_s: float | None = None
    counters_age_s: float | None = None
    feed_down: bool = False
    stop: bool = False
    abort: bool = False


@dataclass
class Controller:
    """seconds: how long to watch. stall_s: how long the data may stand still, and how long a run has to last to hold.
    mock: the exchange is a mock already. sample_every: in force by configuration, then by the soak's steps.
    """

    seconds: float
    stall_s: float
    mock: bool
    sample_every: int
    over: str = ""  # COMPLETE, STOP or ABORT once it has ended
    why: str = ""
    restarts: Counter[str] = field(default_factory=Counter)
    stalls: int = 0
    longest_idle_s: float = 0.0
    _unheld: list[str] = field(default_factory=list)  # causes of the ends since a run held
    _ours: set[str] = field(default_factory=set)  # runs that the soak ended itself
    _ended: set[str] = field(default_factory=set)
    _last: str = ""
    _run: tuple[str, float, int] = ("", 0.0, 0)  # the run that is watched, since when, and its first tick seen
    _tick: int = -1
    _moved_s: float = 0.0
    _down: int = 0  # looks in a row at a unit that nobody will start

    def began(self, invocation: str) -> None:
        """The run that goes on when the watch begins."""
        self._last = invocation

    def ended_it(self, invocation: str) -> None:
        """The soak itself ends this run: its exit decides nothing."""
        self._ours.add(invocation)

    def look(self, seen: Seen) -> list[Decision]:
        """What is decided upon this look; nothing once it is over."""
        found: list[Decision] = []
        for step in (self._asked, self._exits, self._starts, self._pressed, self._left_down, self._data, self._time):
            if self.over:
                break
            found += step(seen)
        return found

    def _end(self, action: str, reason: str, pressure: Json = None) -> Decision:
        self.over, self.why = action, reason
        return Decision(action, reason, Does.END, pressure)

    def _asked(self, seen: Seen) -> list[Decision]:
        if seen.stop:
            return [self._end("STOP", f"asked to stop after {seen.at_s:.0f} of {self.seconds:g} s")]
        return [self._end("ABORT", "the operator's ABORT file is there")] if seen.abort else []

    def _exits(self, seen: Seen) -> list[Decision]:
        found: list[Decision] = []
        lost = [Exit("", None)] * seen.lost
        for one in [*seen.exits, *lost]:
            if one.response is Response.STOP:
                continue  # whether anybody starts it again is told by the starts, and by the unit's state
            self._ended.add(one.invocation)
            if one.invocation in self._ours or self.over:
                continue
            self.restarts[one.cause] += 1
            self._unheld.append(one.cause)
            tries = f", {len(self._unheld)} since a run held" if len(self._unheld) > 1 else ""
            decided = self._about(one)
            does = decided[-1].action if decided else "systemd restarts it"
            found += [Decision("ENGINE_EXIT", f"{one.told}{tries}: {does}"), *decided]
        return found

    def _about(self, one: Exit) -> list[Decision]:
        if one.response is Response.ABORT:
            return [self._end("ABORT", f"{one.told}: a restart cannot mend it")]
        if one.response is Response.STEP:
            return self._step_up(one)
        if one.response is Response.MOCK and self._unheld.count(one.cause) >= REPEATED:
            if self.mock:
                return [self._end("ABORT", f"{one.told} {REPEATED} times, of the mock exchange too")]
            self.mock = True
            self._unheld.clear()
            reason = f"{one.told} {REPEATED} times: the mock exchange, on a scratch database"
            return [Decision("ENGINE_RESTART", reason, Does.MOCK)]
        return self._never_held()

    def _step_up(self, one: Exit) -> list[Decision]:
        step = next_step(self.sample_every)
        if step is None:
            top = f"{one.told} while only one of {self.sample_every} trades is kept"
            return [Decision("THROTTLE_MAX", top), self._end("ABORT", f"{top}: nothing is left to thin out")]
        self.sample_every = step
        return [Decision("THROTTLE_UP", f"{one.told}: one of {step} trades from now on", Does.SAMPLE)]

    def _never_held(self) -> list[Decision]:
        if len(self._unheld) < TRIES:
            return []
        return [self._end("ABORT", f"no run held for {self.stall_s:g} s: {', '.join(self._unheld)}")]

    def _starts(self, seen: Seen) -> list[Decision]:
        """A run whose end nobody told was ended by somebody's hand: exit 0, and somebody started it again."""
        found = []
        for invocation in seen.started:
            before, self._last = self._last, invocation
            if before and before != invocation and before not in self._ended | self._ours:
                self.restarts["BY HAND"] += 1
                found.append(Decision("ENGINE_EXIT", "0 COMPLETE: somebody restarted it"))
        return found

    def _pressed(self, seen: Seen) -> list[Decision]:
        found: list[Decision] = []
        for one in seen.pressure:
            action, would = str(one["action"]), one.get("would")
            reason = f"the engine: {f'it would {would}: ' if would else ''}{one['reason']}"
            if action == "ABORT":
                return [*found, self._end(action, reason, one)]
            found.append(Decision(action, reason, pressure=one))
        return found

    def _left_down(self, seen: Seen) -> list[Decision]:
        down = seen.active in ("failed", "inactive") and not seen.busy
        self._down = self._down + 1 if down else 0
        if self._down < 2:  # between an exit and its restart a unit is inactive for a moment
            return []
        if seen.active == "inactive":
            return [Decision("ENGINE_EXIT", "0 COMPLETE: STOP"), self._end("STOP", "the engine was stopped")]
        return [self._end("ABORT", "the engine failed, and systemd leaves it down")]

    def _data(self, seen: Seen) -> list[Decision]:
        invocation, since, first = self._run
        if not seen.running or seen.invocation != invocation:
            self._run = (seen.invocation if seen.running else "", seen.at_s, seen.tick)
            self._tick, self._moved_s = seen.tick, seen.at_s
            return []
        if seen.tick != self._tick:
            self._tick, self._moved_s = seen.tick, seen.at_s
        if seen.at_s - since >= self.stall_s and seen.tick > first:
            self._unheld.clear()
        idle_s = seen.at_s - self._moved_s
        self.longest_idle_s = max(self.longest_idle_s, idle_s)
        if idle_s < self.stall_s or self._excused(seen):
            return []
        self.stalls += 1
        self.restarts["STALL"] += 1
        self._unheld.append("STALL")
        self._moved_s = seen.at_s
        stall = Decision("STALL", f"no new tick for {idle_s:.1f} s, and not for want of a market")
        return [stall, *(self._never_held() or [Decision("ENGINE_RESTART", "the data stood still", Does.RESTART)])]

    def _excused(self, seen: Seen) -> bool:
        """A quiet market is healthy: frames come, and the counters are written. So is a feed that is known to be down:
        the engine has a deadline of its own for that, and says 10."""

        def young(age_s: float | None) -> bool:
            return age_s is not None and age_s < self.stall_s

        return young(seen.counters_age_s) and (young(seen.frame_age_s) or seen.feed_down)

    def _time(self, seen: Seen) -> list[Decision]:
        return [self._end("COMPLETE", f"{self.seconds:g} s are over")] if seen.at_s >= self.seconds else []
