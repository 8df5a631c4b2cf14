"""stall: a process or a single stage that hangs is seen, killed with its stacks in the journal, and replaced."""

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Annotated, Any, Literal

from proofs.catalog._checks import at_most, equal, figures
from proofs.catalog._steady import STEADY_TICKS, await_ticks, steady
from proofs.catalog.mutations import patched, with_directives
from proofs.experiment.case import Case, Deployed, Proof
from proofs.experiment.measurements import Count, Invocation, Pid, Positive, Seconds, count_from, encode, text_like
from proofs.experiment.stopped_threads import MAIN, ListedThread, StoppedThreads, list_threads, threads_in
from proofs.experiment.subject import Subject, config
from proofs.experiment.trace import Between, Trace, Untraced
from proofs.host.shell import process_state
from proofs.host.unit import Entry, State, Unit, engine_lines, process_state_of, threads_of
from proofs.verdict import Check, Json, Result

WATCHDOG_S = 10.0  # WatchdogSec= may not be longer, whatever the unit says
_SEEN_S = 2.0  # on top of WatchdogSec
_TICK_S = 5.0  # from the restart to its first stored tick
_SLACK_MS = 50  # between the two clocks, over a case
_REPLACEMENT, _NEW_RUN, _TICK = "its replacement", "the new run", "a new tick"  # what is waited for
_TICKS = "a new tick of each"
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


_EACH = config(ingest_mode="SYNTHETIC", tick_interval_ms=20, flush_interval_ms=100, heartbeat_interval_secs=0.5)


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


@dataclass(frozen=True)
class ThreadStopped:
    """others: the states of the process's other threads by their names. ran_on: heartbeats after the fault; of the main
    thread, which writes those, ticks that were stored after it."""

    unit: str
    tid: Pid
    name: str
    state: Annotated[str, text_like("t", "t")]
    others: dict[str, str]
    ran_on: Positive
    invocation: Invocation


@dataclass(frozen=True)
class StageStalled:
    """Of one stage: what came after its stop. None: it did not come. tick_after_s: from the new run's start to the
    receipt of the first tick that this run stored."""

    watchdog_in_force_s: Seconds
    seen_s: Seconds | None
    result: str
    replaced: bool
    tick_after_s: Seconds | None
    ticks_before: Count
    ticks_kept: Count
    rows_equal: bool
    integrity: str
    threads: Count
    stacks: Count


@dataclass(frozen=True)
class StagesStalled:
    n: Count
    stages: dict[str, StageStalled]


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
        last = subject.recorded().last_tick()
        rows = subject.recorded().ticks(last)
        left = max(0.1, self.t0 + bound + 0.5 - time.monotonic())
        killed = host.poll(_REPLACEMENT, left, lambda: _killed(subject, old), every=0.2)
        timeouts = _timeouts(unit.journal(self.cursor), old.invocation)
        stalled = Stalled(
            n=len(rows),
            seen_bound_s=bound,
            result=timeouts[0].unit_result if timeouts else unit.state(quiet=False).result,
            old_invocation=old.invocation,
            watchdog_in_force_s=old.watchdog_s if isfinite(old.watchdog_s) else 0.0,
            fault_ms=round((time.time() - time.monotonic() + self.t0) * 1000),
        )
        if not killed and not timeouts:
            return Unseen(**vars(stalled), seen_s=None)
        seen_s = round(timeouts[0].mono_s - self.t0, 3) if timeouts else None
        if not host.poll(_NEW_RUN, self.deployed.restart_s + 10, lambda: _replaced(subject, old), every=0.05):
            return NotReplaced(**vars(stalled), seen_s=seen_s, new_invocation=None)
        new = unit.state(quiet=False)
        tick = host.poll(_TICK, _TICK_S + 1, lambda: subject.store.last_tick() > last, every=0.02)
        tick_after_s = round(time.monotonic() - new.started_s, 3) if tick else None
        return Replaced(
            **vars(stalled),
            seen_s=seen_s,
            new_invocation=new.invocation,
            restarts=new.restarts - old.restarts,
            tick_after_s=tick_after_s,
            **_kept(rows, subject.recorded().ticks(last)),
            integrity=subject.recorded().integrity(),
        )

    def traced(self, measured: Outcome, trace: Trace) -> Mapping[str, Json | Between]:
        old, entries, last = trace.state(0), trace.journal(), trace.store().last_tick()
        began, timeouts = self.began(trace, entries), _timeouts(entries, old.invocation)
        case, rows = trace.event("case"), trace.store(0).ticks(last)
        fault_ms = [trace.wall_ms(case, at_s) for at_s in began]
        again: dict[str, Json | Between] = {
            "n": len(rows),
            "seen_bound_s": self.deployed.watchdog_s + _SEEN_S,
            "result": timeouts[0].unit_result if timeouts else trace.state(1).result,
            "old_invocation": old.invocation,
            "watchdog_in_force_s": old.watchdog_s if isfinite(old.watchdog_s) else 0.0,
            "seen_s": Between.since(began, timeouts[0].mono_s) if timeouts else None,
            "fault_ms": Between(fault_ms[0] - _SLACK_MS, fault_ms[1] + _SLACK_MS),
        }
        if not timeouts and not trace.waits(_REPLACEMENT)[-1]["data"]["came"]:
            return again
        if not trace.waits(_NEW_RUN)[-1]["data"]["came"]:
            return {**again, "new_invocation": None}
        new, tick = trace.state(-1), trace.waits(_TICK)[-1]
        begun = new.started_s, new.started_s
        return {
            **again,
            "new_invocation": new.invocation,
            "restarts": new.restarts - old.restarts,
            "tick_after_s": Between.since(begun, *trace.around(tick)) if tick["data"]["came"] else None,
            **_kept(rows, trace.store(-1).ticks(last)),
            "integrity": trace.store().integrity(),
        }

    def began(self, trace: Trace, entries: Sequence[Entry]) -> tuple[float, float]:
        """Between which moments on CLOCK_MONOTONIC the fault was made, by the recording."""
        raise NotImplementedError

    def checks(self, measured: Outcome) -> list[Check]:
        checks = [*seen_in_time(measured.watchdog_in_force_s, measured.seen_s, self.deployed.watchdog_s)]
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

    def witness(self, subject: Subject) -> ProcessStopped | None:
        pid = self.old.pid
        subject.host.wait_for("state T", 2, lambda: process_state(pid) == "T", every=0.02)
        stopped = process_state_of(subject.unit.status(pid)) == "T"
        return ProcessStopped(pid, "T", self.old.invocation) if stopped else None

    def traced_witness(self, witness: ProcessStopped, trace: Trace) -> Mapping[str, Json | Between]:
        old, state = trace.state(0), process_state_of(trace.text("grep"))
        return {"pid": old.pid, "state": state, "invocation": old.invocation}

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

    def _marks(self, subject: Subject) -> list[Entry]:
        return [entry for entry in subject.unit.journal(self.cursor, quiet=True) if entry.message.startswith(_BLOCKS)]

    def witness(self, subject: Subject) -> StrategyBlocked | None:
        """Heartbeats go on and the process sleeps, is not stopped; but no tick is stored any more."""
        host, invocation = subject.host, self.old.invocation

        def alive() -> bool:
            return _beats(subject.unit.journal(self.cursor, quiet=True), self.t0, invocation) >= _BEATS

        host.wait_for("stored ticks to stop", 3, lambda: time.monotonic() > self.t0 + 0.5)
        stuck_at = subject.recorded().last_tick()
        host.wait_for("heartbeats after the fault", 6, alive, every=0.2)
        entries, status = subject.unit.journal(self.cursor), subject.unit.status(self.old.pid)
        self.threads, state = threads_of(status), process_state_of(status)
        if subject.recorded().last_tick() != stuck_at or state not in ("R", "S"):
            return None
        beats = _beats(entries, self.t0, invocation)
        return StrategyBlocked(beats, stuck_at, True, state, self.threads, invocation)

    def traced_witness(self, witness: StrategyBlocked, trace: Trace) -> Mapping[str, Json | Between]:
        entries, status, invocation = trace.journal(0), trace.text("grep"), trace.state(0).invocation
        last, later = trace.store(0).last_tick(), trace.store(1).last_tick()
        return {
            "heartbeats_after_fault": _beats(entries, self.began(trace, entries)[0], invocation),
            "last_tick": last,
            "ticks_stopped": last == later,
            "process_state": process_state_of(status),
            "threads": threads_of(status),
            "invocation": invocation,
        }

    def measure(self, subject: Subject) -> Outcome:
        measured = super().measure(subject)
        if not isinstance(measured, Replaced):
            return measured
        stacks, named = _stacks(subject.unit.journal(self.cursor), self.old.invocation)
        return replace(measured, threads=self.threads, stacks=stacks, wedge_named=named)

    def traced(self, measured: Outcome, trace: Trace) -> Mapping[str, Json | Between]:
        again = super().traced(measured, trace)
        if "integrity" not in again:
            return again
        stacks, named = _stacks(trace.journal(), trace.state(0).invocation)
        return {**again, "threads": threads_of(trace.text("grep")), "stacks": stacks, "wedge_named": named}

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


# Each thread that systemd has to miss: the four stages, and the main thread, which pings.
STAGES = ("ingest", "strategy", "execution", "persist", MAIN)


class Stages(Case):
    """Each stage, on a copy of the unit of its own, all side by side: its thread is stopped from outside."""

    name = "each stage"
    n_min = STEADY_TICKS

    def __init__(self, deployed: Deployed, stages: Sequence[str] = STAGES) -> None:
        super().__init__(deployed)
        self._stages = stages
        self.fault = f"one thread stopped by ptrace, on a copy for each: {', '.join(stages)}"
        self._stopped: StoppedThreads | None = None

    def steady(self, subject: Subject) -> None:
        self._copies = {stage: subject.copied_as(stage.replace(" ", "-")) for stage in self._stages}
        names = [copy.unit.name for copy in self._copies.values()]
        self._all = Unit(subject.host, names[0].replace(f"-{self._stages[0]}.", "-*."))
        self._cursor = self._all.cursor()
        for copy in self._copies.values():
            copy.install()
            copy.put("config.toml", _EACH)
        subject.host.do("systemctl", "restart", *names)
        for copy in self._copies.values():
            await_ticks(copy, STEADY_TICKS)

    def inject(self, subject: Subject) -> None:
        self._old = {stage: copy.unit.state(quiet=False) for stage, copy in self._copies.items()}
        self._stopped = StoppedThreads(subject.host, {stage: old.pid for stage, old in self._old.items()})

    def witness(self, subject: Subject) -> dict[str, ThreadStopped]:
        """Its thread is stopped, no other one is; and what the others do goes on."""
        assert self._stopped
        stopped = {stage: thread.at_s for stage, thread in self._stopped.threads.items()}
        old = {stage: state.invocation for stage, state in self._old.items()}
        main = self._copies.get(MAIN)
        before = main.recorded().last_tick() if main else 0

        def ran_on() -> bool:
            counts = _ran_on(self._all.journal(self._cursor, quiet=True), stopped, old)
            counts[MAIN] = main.store.last_tick() - before if main else 1
            return all(counts.values())

        subject.host.wait_for("the other threads to run on", 5, ran_on, every=0.1)
        counts = _ran_on(self._all.journal(self._cursor), stopped, old)
        if main:
            counts[MAIN] = main.recorded().last_tick() - before
        self._threads = lists = {stage: list_threads(subject.host, state.pid) for stage, state in self._old.items()}
        tids = {stage: thread.tid for stage, thread in self._stopped.threads.items()}
        return {
            stage: _shown(copy.unit.name, tids[stage], lists[stage], counts[stage], old[stage])
            for stage, copy in self._copies.items()
        }

    def traced_witness(self, witness: dict[str, ThreadStopped], trace: Trace) -> Mapping[str, Json | Between]:
        stopped, units = trace.event("stopped threads")["data"], self._units(trace)
        old = {stage: trace.first_of(unit).invocation for stage, unit in units.items()}
        counts = _ran_on(trace.journal(0), {stage: one["at_s"] for stage, one in stopped.items()}, old)
        if MAIN in units:
            reads = [trace.store(number, units[MAIN]).last_tick() for number in (0, 1)]
            counts[MAIN] = reads[1] - reads[0]
        lists = self._listed(trace)
        each = {
            stage: _shown(unit, stopped[stage]["tid"], lists[stage], counts[stage], old[stage])
            for stage, unit in units.items()
        }
        return {stage: encode(one) for stage, one in each.items()}

    def _listed(self, trace: Trace) -> dict[str, list[ListedThread]]:
        return dict(zip(self._stages, map(threads_in, trace.texts("grep")), strict=True))

    def _units(self, trace: Trace) -> dict[str, str]:
        """The names of the copies, by the order in which they were looked at before the fault."""
        return {stage: trace.show_event(number)["argv"][2] for number, stage in enumerate(self._stages)}

    def witnessed(self, witness: dict[str, ThreadStopped]) -> bool:
        return set(witness) == set(self._stages) and all(
            each.others and "t" not in each.others.values() and (each.name == stage or stage == MAIN)
            for stage, each in witness.items()
        )

    def measure(self, subject: Subject) -> StagesStalled:
        assert self._stopped
        host, old, copies, threads = subject.host, self._old, self._copies, self._stopped.threads
        last = {stage: copy.recorded().last_tick() for stage, copy in copies.items()}
        rows = {stage: copy.recorded().ticks(last[stage]) for stage, copy in copies.items()}
        bound = min(self.deployed.watchdog_s, WATCHDOG_S) + _SEEN_S
        left = max(0.1, max(thread.at_s for thread in threads.values()) + bound + 0.5 - time.monotonic())
        host.poll("their replacement", left, lambda: all(_killed(copies[one], old[one]) for one in copies), every=0.2)
        killed = [stage for stage in copies if _killed(copies[stage], old[stage])]
        within = min(self.deployed.restart_s, 5.0) + 10
        host.poll("the new runs", within, lambda: all(_replaced(copies[one], old[one]) for one in killed), every=0.1)
        new = {stage: copies[stage].unit.state(quiet=False) for stage in copies}
        replaced = [stage for stage in copies if _is_another(new[stage], old[stage])]
        host.poll(
            _TICKS,
            _TICK_S + 1,
            lambda: all(copies[one].store.first_ms_after_run(_run_of(rows[one])) for one in replaced),
            every=0.05,
        )
        wall_s, journal = time.time() - time.monotonic(), self._all.journal(self._cursor)
        stages = {}
        for stage, copy in copies.items():
            timeouts = _timeouts(journal, old[stage].invocation)
            seen_s = round(timeouts[0].mono_s - threads[stage].at_s, 3) if timeouts else None
            first_ms = copy.recorded().first_ms_after_run(_run_of(rows[stage])) if stage in replaced else None
            tick_after_s = round(first_ms / 1000 - wall_s - new[stage].started_s, 3) if first_ms else None
            after, read = copy.recorded().ticks(last[stage]), copy.recorded().integrity()
            stages[stage] = StageStalled(
                seen_s=seen_s,
                tick_after_s=tick_after_s,
                threads=len(self._threads[stage]),
                **_stalled(journal, old[stage], new[stage]),
                **_kept(rows[stage], after),
                integrity=read,
            )
        return StagesStalled(min(map(len, rows.values())), stages)

    def traced(self, measured: StagesStalled, trace: Trace) -> Mapping[str, Json | Between]:
        journal, wall_ms = trace.journal(), trace.wall_ms(trace.event("case"), 0.0)
        stopped, lists = trace.event("stopped threads")["data"], self._listed(trace)
        stages: dict[str, dict[str, Json | Between]] = {}
        least = []
        for stage, unit in self._units(trace).items():
            old, new, reads = trace.first_of(unit), trace.last_of(unit), trace.store(-1, unit)
            last = reads.last_tick()
            rows, rows_after = trace.store(0, unit).ticks(last), reads.ticks(last)
            least.append(len(rows))
            stages[stage] = one = {
                "seen_s": None,
                "tick_after_s": None,
                "threads": len(lists[stage]),
                **_stalled(journal, old, new),
                **_kept(rows, rows_after),
                "integrity": reads.integrity(),
            }
            if timeouts := _timeouts(journal, old.invocation):
                seen_s = timeouts[0].mono_s - stopped[stage]["at_s"]
                one["seen_s"] = Between(seen_s, seen_s)
            first_ms = reads.first_ms_after_run(_run_of(rows)) if one["replaced"] else None
            if first_ms:
                after_s = (first_ms - wall_ms) / 1000 - new.started_s
                one["tick_after_s"] = Between(after_s - _SLACK_MS / 1000, after_s + _SLACK_MS / 1000)
        return {"n": min(least), "stages": stages}

    def judge(self, measured: StagesStalled) -> Sequence[Check]:
        stages = measured.stages
        seen = [each.seen_s for each in stages.values() if each.seen_s is not None]
        unseen = [stage for stage in self._stages if stage not in stages or stages[stage].seen_s is None]
        others = {stage: each for stage, each in stages.items() if stage not in unseen}
        in_force_s = [each.watchdog_in_force_s for each in stages.values()]
        worst_s = max(in_force_s) if all(in_force_s) else 0.0
        ticks = [each.tick_after_s for each in others.values()]
        known = [each for each in ticks if each is not None]
        kept = all(each.rows_equal and each.ticks_kept == each.ticks_before > 0 for each in stages.values())
        stacks = {stage: each.stacks for stage, each in others.items()}
        return (
            equal("not seen", unseen, [], guard=True),
            *seen_in_time(worst_s, max(seen, default=None), self.deployed.watchdog_s),
            equal("Results", sorted({each.result for each in others.values()}), ["watchdog"] if others else []),
            equal("not replaced", [stage for stage, each in others.items() if not each.replaced], []),
            at_most("first new tick (s)", max(known, default=0.0) if len(known) == len(ticks) else None, _TICK_S),
            equal("ticks kept", kept, True),
            equal("integrity_check", sorted({each.integrity for each in stages.values()}), ["ok"]),
            Check(
                "stacks in the journal",
                stacks,
                "all threads",
                all(each.stacks >= each.threads > 1 for each in others.values()),
            ),
        )

    def release(self, subject: Subject) -> None:
        if self._stopped:
            self._stopped.end()
        subject.host.do("systemctl", "kill", "--kill-whom=all", "--signal=KILL", self._all.name, check=False)
        subject.host.do("systemctl", "stop", self._all.name, check=False)


def seen_in_time(in_force_s: float, seen_s: float | None, deployed_s: float) -> tuple[Check, Check]:
    """The watchdog is as promised, and saw the stall in its time."""
    bound_s = min(deployed_s, WATCHDOG_S) + _SEEN_S
    in_force = Check(
        "WatchdogSec in force (s)", in_force_s, f"above 0, <= {WATCHDOG_S:g}", 0 < in_force_s <= WATCHDOG_S, guard=True
    )
    return in_force, at_most("seen (s)", seen_s, bound_s, guard=True)


def _run_of(rows: Sequence[Mapping[str, Json]]) -> int:
    """The run of the newest of these ticks."""
    return int(rows[-1]["run_id"]) if rows else 0


def _timeouts(entries: Sequence[Entry], invocation: str) -> list[Entry]:
    """systemd's entries that the watchdog of that run timed out."""
    return [entry for entry in entries if entry.unit_result == "watchdog" and entry.invocation == invocation]


def _stacks(entries: Sequence[Entry], invocation: str) -> tuple[int, bool]:
    """How many threads' stacks that run printed, and whether the blocked line is named in them."""
    lines = [entry.message for entry in entries if entry.invocation == invocation]
    stacks = sum(line.startswith(("Thread 0x", "Current thread 0x")) for line in lines)
    return stacks, any(_WEDGED in line and "proof_wedge.py" in line for line in lines)


def _ran_on(entries: Sequence[Entry], stopped: Mapping[str, float], old: Mapping[str, str]) -> dict[str, int]:
    """By stage: heartbeats of its run after its thread was stopped, on CLOCK_MONOTONIC."""
    beats = {stage: engine_lines(entries, "HEARTBEAT", invocation) for stage, invocation in old.items()}
    return {stage: sum(entry.mono_s > stopped[stage] for entry, _ in each) for stage, each in beats.items()}


def _shown(unit: str, tid: int, threads: Sequence[ListedThread], ran_on: int, invocation: str) -> ThreadStopped:
    own = next((thread for thread in threads if thread.tid == tid), ListedThread(tid, "", ""))
    others = {f"{thread.name} {thread.tid}": thread.state for thread in threads if thread.tid != tid}
    return ThreadStopped(unit, tid, own.name, own.state, others, ran_on, invocation)


def _stalled(entries: Sequence[Entry], old: State, new: State) -> dict[str, Any]:
    """The figures of a StageStalled that come from systemd alone."""
    timeouts = _timeouts(entries, old.invocation)
    return {
        "watchdog_in_force_s": old.watchdog_s if isfinite(old.watchdog_s) else 0.0,
        "result": timeouts[0].unit_result if timeouts else "",
        "replaced": _is_another(new, old),
        "stacks": _stacks(entries, old.invocation)[0],
    }


def _beats(entries: Sequence[Entry], since_s: float, invocation: str) -> int:
    """Heartbeats of that run that came well after that moment on CLOCK_MONOTONIC."""
    return sum(entry.mono_s > since_s + 0.3 for entry, _ in engine_lines(entries, "HEARTBEAT", invocation))


def _kept(rows: Sequence[Mapping[str, Json]], rows_after: Sequence[Mapping[str, Json]]) -> dict[str, Any]:
    return {"ticks_before": len(rows), "ticks_kept": len(rows_after), "rows_equal": rows == rows_after}


def _killed(subject: Subject, old: State) -> bool:
    now = subject.unit.state()
    return now.invocation != old.invocation or now.sub == "auto-restart" or now.active == "failed"


def _replaced(subject: Subject, old: State) -> bool:
    return _is_another(subject.unit.state(), old)


def _is_another(now: State, old: State) -> bool:
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
    notes="the wedged strategy is one module more in a copy of the release's lib/, bound over it; each stage is stopped"
    " on a copy of the unit",
    claim="a process or a single stage that hangs is seen by systemd's watchdog, killed with its stacks, and replaced",
    bound=f"seen in WatchdogSec (at most {WATCHDOG_S:g} s) + {_SEEN_S:g} s, a new tick {_TICK_S:g} s after the restart,"
    " no stored tick lost",
    fault="SIGSTOP of the main process; a strategy that blocks while all others run; each stage's thread stopped",
    seconds=23,
    cases=lambda deployed: [Frozen(deployed), Wedged(deployed), Stages(deployed)],
    on_copies=(Wedged.name, Stages.name),
    mutants=[
        with_directives("no-watchdog", "WatchdogSec=0", Frozen.alone),
        patched("stall/blind-pinger", Wedged.alone),
        patched("stall/blind-to-execution", lambda deployed: [Stages(deployed, ["execution"])]),
    ],
    headline=headline,
)
