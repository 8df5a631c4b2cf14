"""What proofs of a fault that lasts have in common: the engine ends with its own code, paced by its deadline, is
restarted into the fault for as long as that lasts, is never left down, and works again by itself when it is over."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise

from proofs.experiment.case import Case
from proofs.experiment.measurements import BadFigure, Figures
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace, Untraced
from proofs.host.unit import Entry, exits, starts
from proofs.verdict import Check, Json, Result

DEADLINE_S = 2.0  # of the scratch config; the deployed one is the operator's
_BACK_S = 5.0  # a start, a connection and a commit on a busy host
_EARLY_S = 0.3  # what "not before its deadline" allows: the last sign of use is a little older than the fault


class ComesBack(Case):
    """code: what it ends with. late_s: how long after the deadline it may end. restarts: how often it has to be
    restarted into the fault before that is lifted."""

    code: int
    deadline_s = DEADLINE_S
    late_s = 3.0
    restarts = 2
    n_min = 1

    t0: float  # CLOCK_MONOTONIC of the fault
    cursor: str  # of the journal, just before it

    @abstractmethod
    def lift(self, subject: Subject) -> None:
        """End the fault."""

    def still(self, subject: Subject) -> None:
        """Called at every look while the fault lasts, to keep it up."""

    def more(self, subject: Subject, seconds: float) -> dict[str, Json]:
        """Further figures, taken when the fault had lasted so many seconds and just before it is lifted."""
        return {}

    def measure(self, subject: Subject) -> dict[str, Json]:
        unit, host, store = subject.unit, subject.host, subject.store

        def entries() -> list[Entry]:
            self.still(subject)
            return unit.journal(self.cursor, quiet=True)

        left = max(0.1, self.t0 + self.deadline_s + self.late_s + 0.5 - time.monotonic())
        came = host.poll(f"its end with {self.code}", left, lambda: exits(entries()), every=0.1)
        if came:
            each = self.deployed.restart_s + self.deadline_s + self.late_s
            host.poll("the restarts", self.restarts * each, lambda: self._enough(subject, entries()), every=0.1)
        seen, state, lasted = unit.journal(self.cursor), unit.state(quiet=False), time.monotonic() - self.t0
        found = self.more(subject, lasted)
        measured: dict[str, Json] = {
            "n": 1, "ends": [{"after_s": round(at - self.t0, 3), "status": status} for at, status in exits(seen)],
            "starts": len(starts(seen)), "state": state.active, "lasted_s": round(lasted, 3), **found,
        }  # fmt: skip
        last = store.last_tick()
        lifted = time.monotonic()
        self.lift(subject)
        if not came:
            return {**measured, "back_s": None}
        host.poll("a new tick", self.back_bound_s + 1, lambda: store.last_tick() > last, every=0.05)
        back_s = round(time.monotonic() - lifted, 3) if store.last_tick() > last else None
        return {**measured, "back_s": back_s, "integrity": store.integrity(), **self.after(subject)}

    def after(self, subject: Subject) -> dict[str, Json]:
        """Further figures, taken when it works again."""
        return {}

    @property
    def back_bound_s(self) -> float:
        """The run that goes on may have to end first, and be restarted."""
        return self.deadline_s + self.deployed.restart_s + _BACK_S

    def _enough(self, subject: Subject, entries: Sequence[Entry]) -> bool:
        return len(starts(entries)) >= self.restarts or subject.unit.state().active == "failed"

    def began(self, trace: Trace) -> tuple[float, float]:
        """Between which moments on CLOCK_MONOTONIC the fault was made, by the recording."""
        raise NotImplementedError

    def traced(self, measured: Figures, trace: Trace) -> Mapping[str, Json | Between]:
        """Its ends and restarts by the journal; of a list of ends each is compared here."""
        least, most = self.began(trace)
        seen = trace.journal(0)
        told = [_end(end) for end in measured.all("ends")]
        read = [(Between(at - most, at - least), status) for at, status in exits(seen)]
        if len(told) != len(read) or any(
            status != again or not span.holds(after) for (after, status), (span, again) in zip(told, read, strict=True)
        ):
            raise Untraced(f"ends {told} are not those of the journal: {read}")
        return {"starts": len(starts(seen)), "state": trace.shown(-1)["ActiveState"]}

    def judge(self, measured: Figures) -> Sequence[Check]:
        ends = [_end(end) for end in measured.all("ends")]
        first = f"{self.deadline_s:g} to {self.deadline_s + self.late_s:g}"
        if not ends:
            return (Check("ended with", None, self.code, False, guard=True),)
        after, codes = ends[0][0], sorted({status for _, status in ends})
        in_time = self.deadline_s - _EARLY_S <= after <= self.deadline_s + self.late_s
        apart = [round(later - earlier, 3) for (earlier, _), (later, _) in pairwise(ends)]
        pace = self.deployed.restart_s + self.deadline_s - _EARLY_S
        back, bound, begun = measured.maybe("back_s"), self.back_bound_s, measured.count("starts")
        state, integrity = measured.text("state"), measured.text("integrity")
        return (
            Check("ended with", codes, [self.code], codes == [self.code]),
            Check("ended after (s)", after, first, in_time, guard=True),
            Check("seconds between its ends", apart, f">= {pace:g}", all(one >= pace for one in apart)),
            Check("restarted into the fault", begun, f">= {self.restarts}", begun >= self.restarts, guard=True),
            Check("not left down", state, "anything but failed", state != "failed", guard=True),
            Check("seconds to recover", back, f"<= {bound:g}", back is not None and back <= bound, guard=True),
            Check("integrity_check", integrity, "ok", integrity == "ok"),
        )


def _end(told: Json) -> tuple[float, int]:
    """After how many seconds, and with which status (of a signal: negative)."""
    end = Figures(told)
    status = end.status("status")
    if status is None:
        raise BadFigure("an end without a status")
    return end.number("after_s"), status


def headline(results: Sequence[Result]) -> str:
    found = []
    for result in results:
        said = {check.name: check.measured for check in result.checks}
        found.append(
            f"{result.case}: ended with {said.get('ended with')} after {said.get('ended after (s)')} s, restarted"
            f" {said.get('restarted into the fault')} times, back {said.get('seconds to recover')} s after it was over"
        )
    return "; ".join(found)
