"""The soak's controller: turns each observation into decisions. A state machine without a clock, file or process.

systemd restarts the engine after an exit, and the engine itself reacts to pressure. The controller decides the rest:
when to give up because no run of the engine holds, what to do about an exit that a restart cannot mend, and what to do
when the data stands still although the watchdog is satisfied.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from proofs.soak.exit_table import REPEATED, TRIES, Exit, Response, next_step
from proofs.verdict import Json


class Effect(StrEnum):
    """What has to be done about a decision, beside recording it."""

    NOTHING = "nothing"
    RESTART = "restart"
    SAMPLE = "sample"  # put the controller's sample_every in force
    MOCK = "mock"  # the mock exchange, on a scratch database
    END = "end"


@dataclass(frozen=True)
class Decision:
    """One line of decisions.jsonl. pressure: the engine's own decision that this passes on, else None."""

    action: str
    reason: str
    effect: Effect = Effect.NOTHING
    pressure: Json = None


@dataclass(frozen=True)
class Observation:
    """What one look at the engine showed. Times and ages in seconds; a new instance for each look.

    at_s: when, since the watch began. active, invocation, running, busy: the unit's state; busy: systemd has a job for
    it. exits, started: the exits, and the invocations that were started, since the last look, in their order.
    lost: restarts that NRestarts counts and the journal does not show. pressure: the engine's decisions about it.
    tick: the highest tick id. frame_age_s, counters_age_s: the age of the last frame, and of the run's row; inf:
    unknown. feed_down: the engine has recorded that no source delivers, for which it has a deadline of its own.
    stop: the soak was asked to stop. abort: the ABORT file exists.
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
    frame_age_s: float = inf
    counters_age_s: float = inf
    feed_down: bool = False
    stop: bool = False
    abort: bool = False


@dataclass
class Controller:
    """Keeps what the decisions depend on. A run *holds* when it has lasted for stall_s and has stored a tick.

    seconds: how long to watch. stall_s: how long the data may stand still. mock: the engine is on a mock exchange.
    sample_every: as configured, then as the soak's own steps set it.
    """

    seconds: float
    stall_s: float
    mock: bool
    sample_every: int
    outcome: str = ""  # COMPLETE, STOP or ABORT; empty while the soak continues
    why: str = ""
    restarts: Counter[str] = field(default_factory=Counter)
    expected: set[str] = field(default_factory=set)  # invocations that the soak itself ends: they lead to no decision
    newest: str = ""  # the invocation that started last; at first the one in progress when the watch begins
    longest_idle_s: float = 0.0
    _failures: list[str] = field(default_factory=list)  # causes of the exits and stalls since a run held
    _ended: set[str] = field(default_factory=set)
    _run: tuple[str, float, int] = ("", 0.0, 0)  # the watched run: invocation, since when, first tick id
    _tick: int = -1
    _tick_at_s: float = 0.0
    _down: int = 0  # consecutive looks at a unit that systemd will not start

    def decide(self, observation: Observation) -> list[Decision]:
        """The decisions that follow from an observation; none once the soak has an outcome."""
        of_unit = (self._check_exits, self._check_starts, self._check_pressure, self._check_unit, self._check_data)
        decisions: list[Decision] = []
        for check in (self._check_requests, *of_unit, self._check_time):
            decisions += [] if self.outcome else check(observation)
        return decisions

    def _end(self, action: str, reason: str, pressure: Json = None) -> Decision:
        self.outcome, self.why = action, reason
        return Decision(action, reason, Effect.END, pressure)

    def _check_requests(self, observation: Observation) -> Iterator[Decision]:
        if observation.stop:
            yield self._end("STOP", f"asked to stop after {observation.at_s:.0f} of {self.seconds:g} s")
        elif observation.abort:
            yield self._end("ABORT", "the operator's ABORT file is there")

    def _check_exits(self, observation: Observation) -> Iterator[Decision]:
        for one in [*observation.exits, *[Exit("", None)] * observation.lost]:
            if one.response is Response.STOP:
                continue  # the starts and the unit's state show whether it was started again
            self._ended.add(one.invocation)
            if one.invocation in self.expected or self.outcome:
                continue
            self.restarts[one.cause] += 1
            self._failures.append(one.cause)
            count = f", {len(self._failures)} since a run held" if len(self._failures) > 1 else ""
            response = self._respond(one)
            action = response[-1].action if response else "systemd restarts it"
            yield Decision("ENGINE_EXIT", f"{one.label}{count}: {action}")
            yield from response

    def _respond(self, one: Exit) -> list[Decision]:
        if one.response is Response.ABORT:
            return [self._end("ABORT", f"{one.label}: a restart cannot mend it")]
        if one.response is Response.STEP:
            return self._step_up(one)
        if one.response is Response.MOCK and self._failures.count(one.cause) >= REPEATED:
            if self.mock:
                return [self._end("ABORT", f"{one.label} {REPEATED} times, of the mock exchange too")]
            self.mock = True
            self._failures.clear()
            reason = f"{one.label} {REPEATED} times: the mock exchange, on a scratch database"
            return [Decision("ENGINE_RESTART", reason, Effect.MOCK)]
        return self._give_up()

    def _step_up(self, one: Exit) -> list[Decision]:
        step = next_step(self.sample_every)
        if step is None:
            top = f"{one.label} while only one of {self.sample_every} trades is kept"
            return [Decision("THROTTLE_MAX", top), self._end("ABORT", f"{top}: nothing is left to thin out")]
        self.sample_every = step
        return [Decision("THROTTLE_UP", f"{one.label}: one of {step} trades from now on", Effect.SAMPLE)]

    def _give_up(self) -> list[Decision]:
        why = f"no run held for {self.stall_s:g} s: {', '.join(self._failures)}"
        return [self._end("ABORT", why)] if len(self._failures) >= TRIES else []

    def _check_starts(self, observation: Observation) -> Iterator[Decision]:
        """A start after a run without a recorded failure: it ended with exit 0, and was started by hand."""
        for invocation in observation.started:
            before, self.newest = self.newest, invocation
            if before and before != invocation and before not in self._ended | self.expected:
                self.restarts["BY HAND"] += 1
                yield Decision("ENGINE_EXIT", "0 COMPLETE: somebody restarted it")

    def _check_pressure(self, observation: Observation) -> Iterator[Decision]:
        for one in observation.pressure:
            action, would = str(one["action"]), one.get("would")
            reason = f"the engine: {f'it would {would}: ' if would else ''}{one['reason']}"
            if action == "ABORT":
                yield self._end(action, reason, one)
                return
            yield Decision(action, reason, pressure=one)

    def _check_unit(self, observation: Observation) -> Iterator[Decision]:
        down = observation.active in ("failed", "inactive") and not observation.busy
        self._down = self._down + 1 if down else 0
        if self._down < 2:  # between an exit and its restart a unit is inactive for a moment
            return
        if observation.active == "failed":
            yield self._end("ABORT", "the engine failed, and systemd leaves it down")
            return
        yield Decision("ENGINE_EXIT", "0 COMPLETE: STOP")
        yield self._end("STOP", "the engine was stopped")

    def _check_data(self, observation: Observation) -> Iterator[Decision]:
        invocation, since, first = self._run
        if not observation.running or observation.invocation != invocation:
            self._run = (observation.invocation if observation.running else "", observation.at_s, observation.tick)
            self._tick, self._tick_at_s = observation.tick, observation.at_s
            return
        if observation.tick != self._tick:
            self._tick, self._tick_at_s = observation.tick, observation.at_s
        if observation.at_s - since >= self.stall_s and observation.tick > first:
            self._failures.clear()
        idle_s = observation.at_s - self._tick_at_s
        self.longest_idle_s = max(self.longest_idle_s, idle_s)
        if idle_s < self.stall_s or self._excused(observation):
            return
        self.restarts["STALL"] += 1
        self._failures.append("STALL")
        self._tick_at_s = observation.at_s
        yield Decision("STALL", f"no new tick for {idle_s:.1f} s, and not for want of a market")
        yield from self._give_up() or [Decision("ENGINE_RESTART", "the data stood still", Effect.RESTART)]

    def _excused(self, observation: Observation) -> bool:
        """A quiet market is no stall: frames arrive, and the counters are written. Nor is a feed that the engine knows
        to be down: it has a deadline for that, and exits with 10."""
        frames_arrive = observation.frame_age_s < self.stall_s
        return observation.counters_age_s < self.stall_s and (frames_arrive or observation.feed_down)

    def _check_time(self, observation: Observation) -> Iterator[Decision]:
        if observation.at_s >= self.seconds:
            yield self._end("COMPLETE", f"{self.seconds:g} s are over")
