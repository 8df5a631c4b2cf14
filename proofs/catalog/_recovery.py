"""Recovery from a fault that lasts: the engine ends with its own code at its deadline, is restarted into the fault for
as long as that lasts, never stays down, and works again by itself when the fault is over."""

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from proofs.catalog._checks import at_least, at_most, equal, figures
from proofs.experiment.case import Case
from proofs.experiment.measurements import BadFigure, Count, Seconds
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.unit import Entry, exits, starts
from proofs.verdict import Check, Json, Result

DEADLINE_S = 2.0  # of the scratch config; the deployed one is the operator's
_BACK_S = 5.0  # a start, a connection and a commit on a busy host
_LIFT = "end the fault"
_EARLY_S = 0.3  # what "not before its deadline" allows: the last sign of use is a little older than the fault


@dataclass(frozen=True)
class End:
    """An end of the engine's process, so long after the fault. status: negative for a signal."""

    after_s: Seconds
    status: int


@dataclass(frozen=True, kw_only=True)
class Lasting:
    """What was seen of the engine while the fault lasted, and how long after that it stored a tick (None: never).

    integrity: of its database afterwards. That, and what a case adds with a default, is measured only after an end.
    """

    n: Count
    ends: list[End]
    starts: Count
    state: str
    lasted_s: Seconds
    back_s: Seconds | None
    integrity: str | None = None


class Recovery(Case):
    """code: what it ends with. late_s: how long after the deadline it may end. restarts: how often it has to be
    restarted into the fault before that is lifted."""

    code: int
    deadline_s = DEADLINE_S
    late_s = 3.0
    restarts = 2

    t0: float  # CLOCK_MONOTONIC of the fault
    cursor: str  # of the journal, just before it

    @abstractmethod
    def lift(self, subject: Subject) -> None:
        """End the fault."""

    def keep_up(self, subject: Subject) -> None:
        """Called at every look while the fault lasts."""

    def figures_during(self, subject: Subject, seconds: float) -> dict[str, Any]:
        """Further figures of this case, when the fault has lasted so many seconds, just before it is lifted."""
        return {}

    def figures_after(self, subject: Subject) -> dict[str, Any]:
        """Further figures of this case, when it works again."""
        return {}

    def run_fault(self, subject: Subject) -> dict[str, Any]:
        """Watch the engine while the fault lasts, lift it, and watch its recovery. Returns the fields of a Lasting."""
        unit, host, store = subject.unit, subject.host, subject.store

        def entries() -> list[Entry]:
            self.keep_up(subject)
            return unit.journal(self.cursor, quiet=True)

        left = max(0.1, self.t0 + self.deadline_s + self.late_s + 0.5 - time.monotonic())
        ended = host.poll(self._end, left, lambda: exits(entries()), every=0.1)
        if ended:
            each = self.deployed.restart_s + self.deadline_s + self.late_s
            host.poll("the restarts", self.restarts * each, lambda: self._restarted(subject, entries()), every=0.1)
        journal, state = unit.journal(self.cursor), unit.state(quiet=False)
        lasted = round(time.monotonic() - self.t0, 3)
        during: dict[str, Any] = {
            "n": 1,
            "ends": [End(round(at - self.t0, 3), status) for at, status in exits(journal)],
            "starts": len(starts(journal)),
            "state": state.active,
            "lasted_s": lasted,
            **self.figures_during(subject, lasted),
        }
        last = store.last_tick()
        subject.announce(_LIFT)
        lifted = time.monotonic()
        self.lift(subject)
        if not ended:
            return {**during, "back_s": None}
        tick = host.poll("a new tick", self.back_bound_s + 1, lambda: store.last_tick() > last, every=0.05)
        back_s = round(time.monotonic() - lifted, 3) if tick else None
        after = {"integrity": subject.recorded().integrity(), **self.figures_after(subject)}
        return {**during, "back_s": back_s, **after}

    @property
    def _end(self) -> str:
        return f"its end with {self.code}"

    @property
    def back_bound_s(self) -> float:
        """The run that goes on may have to end first, and be restarted."""
        return self.deadline_s + self.deployed.restart_s + _BACK_S

    def _restarted(self, subject: Subject, entries: Sequence[Entry]) -> bool:
        return len(starts(entries)) >= self.restarts or subject.unit.state().active == "failed"

    def began(self, trace: Trace) -> tuple[float, float]:
        """Between which moments on CLOCK_MONOTONIC the fault was made, by the recording."""
        raise NotImplementedError

    def traced(self, measured: Lasting, trace: Trace) -> Mapping[str, Json | Between]:
        began, journal, show = self.began(trace), trace.journal(0), trace.show_event(-1)
        again: dict[str, Json | Between] = {
            "n": 1,
            "ends": [{"after_s": Between.since(began, at), "status": status} for at, status in exits(journal)],
            "starts": len(starts(journal)),
            "state": trace.shown(-1)["ActiveState"],
            "lasted_s": Between.since(began, *trace.around(show)),
            "back_s": None,
        }
        if not trace.waits(self._end)[-1]["data"]["came"]:
            return again
        tick = trace.waits("a new tick")[-1]
        if tick["data"]["came"]:
            again["back_s"] = Between.since(trace.around(trace.intent(_LIFT)), *trace.around(tick))
        return {**again, "integrity": trace.store().integrity()}

    def checks(self, measured: Lasting) -> list[Check]:
        first = f"{self.deadline_s:g} to {self.deadline_s + self.late_s:g}"
        if not measured.ends:
            return [equal("ended with", None, self.code, guard=True)]
        if measured.integrity is None:
            raise BadFigure("it ended, and its recovery was not measured")
        after = measured.ends[0].after_s
        in_time = self.deadline_s - _EARLY_S <= after <= self.deadline_s + self.late_s
        apart = [round(later.after_s - earlier.after_s, 3) for earlier, later in pairwise(measured.ends)]
        pace = self.deployed.restart_s + self.deadline_s - _EARLY_S
        return [
            equal("ended with", sorted({end.status for end in measured.ends}), [self.code]),
            Check("ended after (s)", after, first, in_time, guard=True),
            Check("seconds between its ends", apart, f">= {pace:g}", all(one >= pace for one in apart)),
            at_least("restarted into the fault", measured.starts, self.restarts, guard=True),
            Check("not left down", measured.state, "anything but failed", measured.state != "failed", guard=True),
            at_most("seconds to recover", measured.back_s, self.back_bound_s, guard=True),
            equal("integrity_check", measured.integrity, "ok"),
        ]


def headline(results: Sequence[Result]) -> str:
    parts = []
    for result in results:
        measured = figures([result])
        parts.append(
            f"{result.case}: ended with {measured.get('ended with')} after {measured.get('ended after (s)')} s,"
            f" restarted {measured.get('restarted into the fault')} times, back {measured.get('seconds to recover')} s"
            " after it was over"
        )
    return "; ".join(parts)
