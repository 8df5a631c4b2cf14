"""stall: a process or a single stage that hangs is seen, killed with its stacks in the journal, and replaced."""

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from proofs.catalog._checks import at_most, equal, figures
from proofs.catalog._steady import STEADY_TICKS, steady
from proofs.catalog.mutations import patched, with_directives
from proofs.experiment.case import Case, Proof
from proofs.experiment.measurements import Count, Invocation, Pid, Positive, Seconds, count_from, text_like
from proofs.experiment.subject import Subject, config
from proofs.experiment.trace import Between, Trace, Untraced
from proofs.host.shell import process_state
from proofs.host.unit import Entry, State, engine_lines
from proofs.verdict import Check, Json, Result

_SEEN_S = 2.0  # on top of WatchdogSec
_TICK_S = 5.0  # from the restart to its first stored tick
_BLOCKS = "proof_wedge: "
_BEATS = 3  # heartbeats of a process whose one stage is blocked
_WEDGED = "the_strategy_is_wedged_here"
WEDGE = f'''"""A strategy that works for a while, then waits for what never comes. Its thread sleeps; all others run."""
import sys
import threading


class Wedge:
    def __init__(self):
        self.left = 50

    def on_tick(self, tick):
        self.left -= 1
        if self.left == 0:
            print("proof_wedge: waiting from here on, after tick", tick.id, file=sys.stderr, flush=True)
            {_WEDGED}()


def {_WEDGED}():
    threading.Event().wait()


def make(settings):
    return Wedge()
'''


BLOCKING = config(
    ingest_mode="SYNTHETIC",
    tick_interval_ms=20,
    flush_interval_ms=100,
    heartbeat_interval_secs=0.5,
    strategy="proof_wedge:make",
)


@dataclass(frozen=True)
class ProcessStopped:
    pid: Pid
    state: Literal["T"]
    invocation: Invocation


@dataclass(frozen=True)
class StrategyBlocked:
    heartbeats_after_fault: Annotated[int, count_from(_BEATS)]
    last_tick: Positive
    ticks_stopped: Literal[True]
    process_state: Annotated[str, text_like("R or S", "[RS]")]
    threads: Annotated[int, count_from(2)]
    invocation: Invocation


@dataclass(frozen=True, kw_only=True)
class Stalled:
    """What every outcome has. n: ticks stored before the fault. result: systemd's Result of the unit."""

    n: Count
    seen_bound_s: Seconds
    result: str
    old_invocation: Invocation
    watchdog_in_force_s: Seconds
    fault_ms: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Unseen(Stalled):
    seen_s: None


@dataclass(frozen=True, kw_only=True)
class NotReplaced(Stalled):
    seen_s: Seconds | None
    new_invocation: None


@dataclass(frozen=True, kw_only=True)
class Replaced(Stalled):
    """tick_after_s: from the new run's start to its first stored tick.

    threads: of the stalled process. stacks: those that it printed; by the stall of one stage alone.
    """

    seen_s: Seconds | None
    new_invocation: Invocation
    restarts: Count
    tick_after_s: Seconds | None
    ticks_before: Count
    ticks_kept: Count
    rows_equal: bool
    integrity: str
    threads: Count | None = None
    stacks: Count | None = None
    wedge_named: bool | None = None


Outcome = Unseen | NotReplaced | Replaced


class Stall(Case):
    """What both stalls share: how they are seen, and what has to come after."""

    t0: float  # CLOCK_MONOTONIC of the fault
    old: State  # the unit just before it
    cursor: str
    n_min = STEADY_TICKS

    def steady(self, subject: Subject) -> None:
        self.cursor = subject.unit.cursor()
        steady(subject)

    def measure(self, subject: Subject) -> Outcome:
        unit, host, old = subject.unit, subject.host, self.old
        bound = self.deployed.watchdog_s + _SEEN_S
        last = subject.store.last_tick()
        rows = subject.store.ticks(last)
        left = max(0.1, self.t0 + bound + 0.5 - time.monotonic())
        killed = host.poll("its replacement", left, lambda: _killed(subject, old), every=0.2)
        timeouts = _timeouts(unit.journal(self.cursor), old.invocation)
        stalled = Stalled(
            n=len(rows),
            seen_bound_s=bound,
            result=timeouts[0].unit_result if timeouts else unit.state().result,
            old_invocation=old.invocation,
            watchdog_in_force_s=old.watchdog_s,
            fault_ms=round((time.time() - time.monotonic() + self.t0) * 1000),
        )
        if not killed and not timeouts:
            return Unseen(**vars(stalled), seen_s=None)
        seen_s = round(timeouts[0].mono_s - self.t0, 3) if timeouts else None
        if not host.poll("the new run", self.deployed.restart_s + 10, lambda: _replaced(subject, old), every=0.05):
            return NotReplaced(**vars(stalled), seen_s=seen_s, new_invocation=None)
        new = unit.state(quiet=False)
        tick = host.poll("a new tick", _TICK_S + 1, lambda: subject.store.last_tick() > last, every=0.02)
        tick_after_s = round(time.monotonic() - new.started_s, 3) if tick else None
        rows_after = subject.store.ticks(last)
        return Replaced(
            **vars(stalled),
            seen_s=seen_s,
            new_invocation=new.invocation,
            restarts=new.restarts - old.restarts,
            tick_after_s=tick_after_s,
            ticks_before=len(rows),
            ticks_kept=len(rows_after),
            rows_equal=rows == rows_after,
            integrity=subject.store.integrity(),
        )

    def traced(self, measured: Outcome, trace: Trace) -> Mapping[str, Json | Between]:
        old, entries = trace.shown(0), trace.journal()
        began, timeouts = self.began(trace, entries), _timeouts(entries, old["InvocationID"])
        again: dict[str, Json | Between] = {
            "old_invocation": old["InvocationID"],
            "seen_s": Between.since(began, timeouts[0].mono_s) if timeouts else None,
        }
        if not isinstance(measured, Replaced):
            return again
        now, tick = trace.shown(-1), trace.waits("a new tick")[-1]
        begun = int(now["ExecMainStartTimestampMonotonic"]) / 1e6
        if tick["data"]["came"]:
            again["tick_after_s"] = Between.since((begun, begun), *trace.around(tick))
        return {
            **again,
            "result": timeouts[0].unit_result if timeouts else measured.result,
            "new_invocation": now["InvocationID"],
            "restarts": trace.restarts(),
        }

    def began(self, trace: Trace, entries: Sequence[Entry]) -> tuple[float, float]:
        """Between which moments on CLOCK_MONOTONIC the fault was made, by the recording."""
        raise NotImplementedError

    def checks(self, measured: Outcome) -> list[Check]:
        checks = [at_most("seen (s)", measured.seen_s, self.deployed.watchdog_s + _SEEN_S, guard=True)]
        if isinstance(measured, Unseen):
            return checks
        new = measured.new_invocation
        checks += [
            equal("Result", measured.result, "watchdog"),
            Check("new InvocationID", new, "another", bool(new) and new != measured.old_invocation),
        ]
        if isinstance(measured, NotReplaced):
            return checks
        before, kept = measured.ticks_before, measured.ticks_kept
        return [
            *checks,
            at_most("first new tick (s)", measured.tick_after_s, _TICK_S),
            Check("ticks kept", kept, before, measured.rows_equal and kept == before > 0),
            equal("integrity_check", measured.integrity, "ok"),
        ]


class Frozen(Stall):
    """The whole process, by SIGSTOP."""

    name = "process"
    fault = "SIGSTOP of the main process"

    def inject(self, subject: Subject) -> None:
        self.old = subject.unit.state(quiet=False)
        self.t0 = subject.host.send_signal(self.old.pid, signal.SIGSTOP)

    def witness(self, subject: Subject) -> ProcessStopped:
        pid = self.old.pid
        subject.host.wait_for("state T", 2, lambda: process_state(pid) == "T", every=0.02)
        return ProcessStopped(pid, "T", self.old.invocation)

    def judge(self, measured: Outcome) -> Sequence[Check]:
        return self.checks(measured)

    def began(self, trace: Trace, entries: Sequence[Entry]) -> tuple[float, float]:
        return trace.around(trace.intent("kill -STOP "))


class Wedged(Stall):
    """One stage alone: its thread waits for ever, every other thread runs."""

    name = "one stage"
    fault = "a strategy that blocks for ever after 50 ticks, while every other thread runs"

    def steady(self, subject: Subject) -> None:
        subject.add_module("proof_wedge.py", WEDGE)
        subject.install()
        super().steady(subject)  # on the healthy strategy first
        subject.put("config.toml", BLOCKING)

    def inject(self, subject: Subject) -> None:
        self.cursor = subject.unit.cursor()
        subject.restart()
        marks = subject.host.wait_for("the strategy to block", 15, lambda: self._marks(subject))
        self.old = subject.unit.state(quiet=False)
        self.t0 = marks[0].mono_s
        self.threads = subject.unit.threads()

    def _marks(self, subject: Subject) -> list[Entry]:
        return [entry for entry in subject.unit.journal(self.cursor, quiet=True) if entry.message.startswith(_BLOCKS)]

    def witness(self, subject: Subject) -> StrategyBlocked | None:
        """Heartbeats go on and the process sleeps, is not stopped; but no tick is stored any more."""
        host, invocation = subject.host, self.old.invocation

        def alive() -> list[float]:
            lines = engine_lines(subject.unit.journal(self.cursor, quiet=True), "HEARTBEAT", invocation)
            later = [entry.mono_s for entry, _ in lines if entry.mono_s > self.t0 + 0.3]
            return later if len(later) >= _BEATS else []

        host.wait_for("stored ticks to stop", 3, lambda: time.monotonic() > self.t0 + 0.5)
        stuck_at = subject.store.last_tick()
        beats = host.wait_for("heartbeats after the fault", 6, alive, every=0.2)
        state = process_state(self.old.pid)
        if subject.store.last_tick() != stuck_at or state not in ("R", "S"):
            return None
        return StrategyBlocked(len(beats), stuck_at, True, state, self.threads, invocation)

    def measure(self, subject: Subject) -> Outcome:
        measured = super().measure(subject)
        if not isinstance(measured, Replaced):
            return measured
        stacks, named = _stacks(subject.unit.journal(self.cursor), self.old.invocation)
        return replace(measured, threads=self.threads, stacks=stacks, wedge_named=named)

    def traced(self, measured: Outcome, trace: Trace) -> Mapping[str, Json | Between]:
        again = super().traced(measured, trace)
        if not isinstance(measured, Replaced):
            return again
        stacks, named = _stacks(trace.journal(), measured.old_invocation)
        return {**again, "stacks": stacks, "wedge_named": named}

    def began(self, trace: Trace, entries: Sequence[Entry]) -> tuple[float, float]:
        blocked = [entry.mono_s for entry in entries if entry.message.startswith(_BLOCKS)]
        if not blocked:
            raise Untraced("the strategy did not say that it blocks")
        return blocked[0], blocked[0]

    def judge(self, measured: Outcome) -> Sequence[Check]:
        checks = self.checks(measured)
        if isinstance(measured, Replaced):
            stacks, threads = measured.stacks or 0, measured.threads or 0
            checks.append(Check("stacks in the journal", stacks, f"{threads}, all threads", stacks >= threads > 1))
            checks.append(equal("the blocked line is named", measured.wedge_named, True))
        return checks


def _timeouts(entries: Sequence[Entry], invocation: str) -> list[Entry]:
    """systemd's entries that the watchdog of that run timed out."""
    return [entry for entry in entries if entry.unit_result == "watchdog" and entry.invocation == invocation]


def _stacks(entries: Sequence[Entry], invocation: str) -> tuple[int, bool]:
    """How many threads' stacks that run printed, and whether the blocked line is named in them."""
    lines = [entry.message for entry in entries if entry.invocation == invocation]
    stacks = sum(line.startswith(("Thread 0x", "Current thread 0x")) for line in lines)
    return stacks, any(_WEDGED in line and "proof_wedge.py" in line for line in lines)


def _killed(subject: Subject, old: State) -> bool:
    now = subject.unit.state()
    return now.invocation != old.invocation or now.sub == "auto-restart" or now.active == "failed"


def _replaced(subject: Subject, old: State) -> bool:
    now = subject.unit.state()
    return now.running and now.invocation != old.invocation


def headline(results: Sequence[Result]) -> str:
    parts = []
    for result in results:
        measured = figures([result])
        seen, tick = measured.get("seen (s)"), measured.get("first new tick (s)")
        parts.append(f"{result.case} seen in {seen} s, tick after {tick} s")
    return "; ".join(parts)


PROOF = Proof(
    name="stall",
    notes="the wedged strategy is one module more in a copy of the release's lib/, bound over it",
    claim="a process or a single stage that hangs is seen by systemd's watchdog, killed with its stacks, and replaced",
    bound=f"seen in WatchdogSec + {_SEEN_S:g} s, a new tick {_TICK_S:g} s after the restart, no stored tick lost",
    fault="SIGSTOP of the main process; a strategy that blocks while every other thread runs",
    seconds=32,
    cases=lambda deployed: [Frozen(deployed), Wedged(deployed)],
    mutants=[
        with_directives("no-watchdog", "WatchdogSec=0", Frozen.alone),
        patched("stall/blind-pinger", Wedged.alone),
    ],
    headline=headline,
)
