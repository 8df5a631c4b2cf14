"""stall: a process or a single stage that hangs is seen, killed with its stacks in the journal, and replaced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence

from proofs.catalog import mutations
from proofs.catalog._steady import STEADY_TICKS, steady
from proofs.experiment.case import Case, Mutant, Proof
from proofs.experiment.measurements import Figures
from proofs.experiment.subject import Copy, Subject, config
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


class Stall(Case):
    """What both stalls share: how they are seen, and what has to come after."""

    t0: float  # CLOCK_MONOTONIC of the fault
    old: State  # the unit just before it
    cursor: str
    n_min = STEADY_TICKS

    def steady(self, subject: Subject) -> None:
        self.cursor = subject.unit.cursor()
        steady(subject)

    def measure(self, subject: Subject) -> dict[str, Json]:
        unit, host, old = subject.unit, subject.host, self.old
        bound = self.deployed.watchdog_s + _SEEN_S
        last = subject.store.last_tick()
        rows = subject.store.ticks(last)
        left = max(0.1, self.t0 + bound + 0.5 - time.monotonic())
        replaced = host.poll("its replacement", left, lambda: _killed(subject, old), every=0.2)
        seen = [e for e in unit.journal(self.cursor) if e.unit_result == "watchdog" and e.invocation == old.invocation]
        measured: dict[str, Json] = {
            "seen_s": round(seen[0].mono_s - self.t0, 3) if seen else None, "seen_bound_s": bound, "n": len(rows),
            "result": seen[0].unit_result if seen else unit.state().result, "old_invocation": old.invocation,
            "watchdog_in_force_s": old.watchdog_s,
            "fault_ms": round((time.time() - time.monotonic() + self.t0) * 1000),
        }  # fmt: skip
        if not replaced and not seen:
            return measured
        if not host.poll("the new run", self.deployed.restart_s + 10, lambda: _replaced(subject, old), every=0.05):
            return {**measured, "new_invocation": None}
        started = unit.state(quiet=False)
        tick = host.poll("a new tick", _TICK_S + 1, lambda: subject.store.last_tick() > last, every=0.02)
        tick_after_s = round(time.monotonic() - started.started_s, 3) if tick else None
        kept = subject.store.ticks(last)
        return {
            **measured, "new_invocation": started.invocation, "restarts": started.restarts - old.restarts,
            "tick_after_s": tick_after_s,
            "ticks_before": len(rows), "ticks_kept": len(kept), "rows_equal": rows == kept,
            "integrity": subject.store.integrity(), **self.more(unit.journal(self.cursor), old),
        }  # fmt: skip

    def more(self, entries: Sequence[Entry], old: State) -> dict[str, Json]:
        return {}

    def traced(self, measured: Figures, trace: Trace) -> Mapping[str, Json | Between]:
        old, entries = trace.shown(0), trace.journal()
        least, most = self.began(trace, entries)
        seen = [e for e in entries if e.unit_result == "watchdog" and e.invocation == old["InvocationID"]]
        at = seen[0].mono_s if seen else 0.0
        found: dict[str, Json | Between] = {
            "old_invocation": old["InvocationID"], "seen_s": Between(at - most, at - least) if seen else None,
        }  # fmt: skip
        if "integrity" not in measured:
            return found
        now, tick = trace.shown(-1), trace.waits("a new tick")[-1]
        begun = int(now["ExecMainStartTimestampMonotonic"]) / 1e6
        if tick["data"]["came"]:
            found["tick_after_s"] = Between(tick["mono_ns"] / 1e9 - begun, trace.after(tick)["mono_ns"] / 1e9 - begun)
        return {
            **found, "result": seen[0].unit_result if seen else measured.of("result"),
            "new_invocation": now["InvocationID"], "restarts": int(now["NRestarts"]) - int(old["NRestarts"]),
            **self.traced_more(entries, old["InvocationID"]),
        }  # fmt: skip

    def began(self, trace: Trace, entries: Sequence[Entry]) -> tuple[float, float]:
        """Between which moments on CLOCK_MONOTONIC the fault was made, by the recording."""
        raise NotImplementedError

    def traced_more(self, entries: Sequence[Entry], invocation: str) -> dict[str, Json]:
        return {}

    def judge(self, measured: Figures) -> Sequence[Check]:
        seen, bound = measured.maybe("seen_s"), self.deployed.watchdog_s + _SEEN_S
        checks = [Check("seen (s)", seen, f"<= {bound:g}", seen is not None and seen <= bound, guard=True)]
        if seen is None and "new_invocation" not in measured:
            return checks
        result, new, old = measured.text("result"), measured.of("new_invocation"), measured.invocation("old_invocation")
        checks += [
            Check("Result", result, "watchdog", result == "watchdog"),
            Check("new InvocationID", new, "another", bool(new) and new != old),
        ]
        if new is None:
            return checks
        measured.invocation("new_invocation")
        tick, integrity = measured.maybe("tick_after_s"), measured.text("integrity")
        kept, before, equal = measured.count("ticks_kept"), measured.count("ticks_before"), measured.flag("rows_equal")
        return [
            *checks,
            Check("first new tick (s)", tick, f"<= {_TICK_S:g}", tick is not None and tick <= _TICK_S),
            Check("ticks kept", kept, before, equal and kept == before > 0),
            Check("integrity_check", integrity, "ok", integrity == "ok"),
        ]


class Frozen(Stall):
    """The whole process, by SIGSTOP."""

    name = "process"
    fault = "SIGSTOP of the main process"

    def inject(self, subject: Subject) -> None:
        self.old = subject.unit.state(quiet=False)
        subject.host.recorder.intent(f"kill -STOP {self.old.pid}", scope=subject.host.scope)
        self.t0 = time.monotonic()
        os.kill(self.old.pid, signal.SIGSTOP)

    def witness(self, subject: Subject) -> Json:
        pid = self.old.pid
        subject.host.wait_for("state T", 2, lambda: process_state(pid) == "T", every=0.02)
        return {"pid": pid, "state": process_state(pid), "invocation": self.old.invocation}

    def witnessed(self, seen: Figures) -> bool:
        return seen.count("pid") > 1 and seen.text("state") == "T" and bool(seen.invocation("invocation"))

    def began(self, trace: Trace, entries: Sequence[Entry]) -> tuple[float, float]:
        announced = trace.intent("kill -STOP ")
        return announced["mono_ns"] / 1e9, trace.after(announced)["mono_ns"] / 1e9


class Wedged(Stall):
    """One stage alone: its thread waits for ever, every other thread runs."""

    name = "one stage"
    fault = "a strategy that blocks for ever after 50 ticks, while every other thread runs"

    def steady(self, subject: Subject) -> None:
        subject.add_module("proof_wedge.py", WEDGE)
        subject.install()
        super().steady(subject)  # on the healthy strategy first
        subject.put(
            "config.toml",
            config(ingest_mode="SYNTHETIC", tick_interval_ms=20, flush_interval_ms=100, heartbeat_interval_secs=0.5,
                   strategy="proof_wedge:make"),
        )  # fmt: skip

    def inject(self, subject: Subject) -> None:
        self.cursor = subject.unit.cursor()
        subject.restart()
        marks = subject.host.wait_for("the strategy to block", 15, lambda: self._marks(subject))
        self.old = subject.unit.state(quiet=False)
        self.t0 = marks[0].mono_s
        self.threads = subject.unit.threads()

    def _marks(self, subject: Subject) -> list[Entry]:
        return [entry for entry in subject.unit.journal(self.cursor, quiet=True) if entry.message.startswith(_BLOCKS)]

    def witness(self, subject: Subject) -> Json:
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
        still = subject.store.last_tick() == stuck_at
        if not still or state not in ("R", "S"):
            return None
        return {
            "heartbeats_after_fault": len(beats), "last_tick": stuck_at, "ticks_stopped": still, "process_state": state,
            "threads": self.threads, "invocation": invocation,
        }  # fmt: skip

    def witnessed(self, seen: Figures) -> bool:
        alive = seen.count("heartbeats_after_fault") >= _BEATS and seen.text("process_state") in ("R", "S")
        seen.invocation("invocation")
        return alive and seen.flag("ticks_stopped") and seen.count("threads") > 1 and seen.count("last_tick") > 0

    def more(self, entries: Sequence[Entry], old: State) -> dict[str, Json]:
        return {"threads": self.threads, **self.traced_more(entries, old.invocation)}

    def traced_more(self, entries: Sequence[Entry], invocation: str) -> dict[str, Json]:
        text = [entry.message for entry in entries if entry.invocation == invocation]
        return {
            "stacks": sum(line.startswith(("Thread 0x", "Current thread 0x")) for line in text),
            "wedge_named": any(_WEDGED in line and "proof_wedge.py" in line for line in text),
        }

    def began(self, trace: Trace, entries: Sequence[Entry]) -> tuple[float, float]:
        said = [entry.mono_s for entry in entries if entry.message.startswith(_BLOCKS)]
        if not said:
            raise Untraced("the strategy did not say that it blocks")
        return said[0], said[0]

    def judge(self, measured: Figures) -> Sequence[Check]:
        checks = list(super().judge(measured))
        if any(check.name == "integrity_check" for check in checks):
            stacks, threads, named = measured.count("stacks"), measured.count("threads"), measured.flag("wedge_named")
            checks.append(Check("stacks in the journal", stacks, f"{threads}, all threads", stacks >= threads > 1))
            checks.append(Check("the blocked line is named", named, True, named))
        return checks


def _killed(subject: Subject, old: State) -> bool:
    now = subject.unit.state()
    return now.invocation != old.invocation or now.sub == "auto-restart" or now.active == "failed"


def _replaced(subject: Subject, old: State) -> bool:
    now = subject.unit.state()
    return now.running and now.invocation != old.invocation


def _no_watchdog(copy: Copy) -> None:
    copy.directives.append("WatchdogSec=0")


def _blind_pinger(copy: Copy) -> None:
    mutations.apply(copy, "stall/blind-pinger")


def headline(results: Sequence[Result]) -> str:
    found = []
    for result in results:
        checks = {check.name: check.measured for check in result.checks}
        found.append(
            f"{result.case} seen in {checks.get('seen (s)')} s, tick after {checks.get('first new tick (s)')} s"
        )
    return "; ".join(found)


PROOF = Proof(
    name="stall",
    notes="the wedged strategy is one module more in a copy of the release's lib/, bound over it",
    claim="a process or a single stage that hangs is seen by systemd's watchdog, killed with its stacks, and replaced",
    bound=f"seen in WatchdogSec + {_SEEN_S:g} s, a new tick {_TICK_S:g} s after the restart, no stored tick lost",
    fault="SIGSTOP of the main process; a strategy that blocks while every other thread runs",
    seconds=32,
    cases=lambda deployed: [Frozen(deployed), Wedged(deployed)],
    mutants=[
        Mutant("no-watchdog", "WatchdogSec=0", _no_watchdog, lambda deployed: [Frozen(deployed)]),
        Mutant(
            "blind-pinger",
            "a pinger that pings whatever the stages do",
            _blind_pinger,
            lambda deployed: [Wedged(deployed)],
        ),
    ],
    headline=headline,
)
