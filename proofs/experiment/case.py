"""The frame every proof runs in: steady state, fault, witness, measure, restore, steady state, verdict.

A proof is a list of cases on the operator's unit; at the same time, some of its cases run on copies of the unit, and
cases of the mutants on copies without the guard. What a case measures is recorded before it is judged, and `judge` gets
nothing but the recording: so the verdict can be computed again from that alone.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from proofs import verdict as verdicts
from proofs.errors import ProofError
from proofs.experiment.measurements import Count, argument_type, decode, encode, return_type
from proofs.experiment.subject import Changes, Subject
from proofs.experiment.timeline import Timeline
from proofs.experiment.trace import Between, Trace, differences
from proofs.host.shell import Host, Interrupted, WaitTimeout
from proofs.verdict import Check, Json, Result, Verdict


class NotSteady(ProofError):
    """The unit was not in its steady state before the fault, so nothing can be said about the fault."""


@dataclass(frozen=True)
class Deployed:
    """What the unit in force promises, as systemd shows it; owner: uid and gid of its state."""

    watchdog_s: float
    restart_s: float
    owner: tuple[int, int]


class Case:
    """One fault. A subclass fills in the steps; `run_case` calls them in this order.

    name, fault: as reports show them. n_min: how many samples the verdict needs, fixed beforehand.
    """

    name: str = ""
    fault: str = ""
    n_min: int = 1

    def __init__(self, deployed: Deployed) -> None:
        self.deployed = deployed

    @classmethod
    def alone(cls, deployed: Deployed) -> Sequence[Self]:
        """The cases of a proof, or of a mutant, that has only this one."""
        return [cls(deployed)]

    def steady(self, subject: Subject) -> None:
        """Bring the unit to its steady state. Raises NotSteady or WaitTimeout when it does not get there."""

    def inject(self, subject: Subject) -> None:
        raise NotImplementedError

    # Each case has dataclasses of its own for these four. The recorded JSON is decoded as what `judge` declares as its
    # argument; a witness as what `witnessed` does, or, where there is nothing more to it, as what `witness` returns.

    def witness(self, subject: Subject) -> Any:
        """What shows, independently of the engine's reaction, that the fault took place; None when nothing does."""
        raise NotImplementedError

    def witnessed(self, witness: Any) -> bool:
        """Whether the witness, which is of its type, shows that the fault took place."""
        return True

    def shows_fault(self, witness: Json) -> bool:
        """Whether what was recorded as the witness is one. What cannot be decoded shows nothing."""
        kind = argument_type(self.witnessed)
        try:
            return self.witnessed(decode(return_type(self.witness) if kind is Any else kind, witness))
        except ValueError:  # BadFigure, or an odd number of them
            return False

    def measure(self, subject: Subject) -> Any:
        """The figures; "n" is the number of samples."""
        raise NotImplementedError

    def judge(self, measured: Any) -> Sequence[Check]:
        """Its checks, by the catalogue's bounds alone: what was measured never says how much it may be."""
        raise NotImplementedError

    def decode(self, measured: Json) -> Any:
        """What was measured, out of its recording. Raises BadFigure."""
        return decode(argument_type(self.judge), measured)

    def traced(self, measured: Any, trace: Trace) -> Mapping[str, Json | Between]:
        """What was measured, as the recorded outputs come to it when they are read once more.

        A figure that is left out has to be on the proof's list of those that are taken on the host's word.

        Raises:
            Untraced: the recording does not have what was read.
        """
        return {}

    def traced_witness(self, witness: Any, trace: Trace) -> Mapping[str, Json | Between]:
        """The same of what was witnessed."""
        return {}

    def untraced(self, measured: Json, trace: Trace, host_word: Mapping[str, str]) -> list[str]:
        """Which recorded figures, and which of the witness, are not what the recorded outputs come to; and why.

        host_word: of the proof. Raises Untraced, or whatever a forged output does to the rules.
        """
        kind = argument_type(self.witnessed)
        shown = trace.event("witness")["data"]
        witness = decode(return_type(self.witness) if kind is Any else kind, shown)
        again = {"witness": self.traced_witness(witness, trace), **self.traced(self.decode(measured), trace)}
        return differences({"witness": shown, **measured}, again, host_word)

    def release(self, subject: Subject) -> None:
        """End what this case started (exchanges); called whatever happened."""


Cases = Callable[[Deployed], Sequence[Case]]


@dataclass(frozen=True)
class Mutant:
    """How to take the guard out of a copy of the unit; `cases` are those that it has to fail.

    A proof in place has no copy: its guard is the controller's, and the mutant's cases ask it to leave that out.
    """

    name: str
    what: str
    cases: Cases
    make: Callable[[Changes], None] = lambda copy: None


@dataclass(frozen=True)
class Proof:
    """One entry of the catalogue. seconds: what it usually takes; the lease ends it after `cap_s`."""

    name: str
    claim: str
    bound: str
    fault: str
    seconds: float
    cases: Cases
    mutants: Sequence[Mutant]
    # The cases that each run on a copy of the unit, beside the others and the mutants: none that a busy host spoils.
    on_copies: Collection[str] = ()
    in_place: bool = False  # on the deployed unit itself; its mutants take their turn after it, on the same
    notes: str = ""  # what else of the unit under test is not as deployed, and why
    not_applicable: Callable[[Host], str] = lambda host: ""  # why this host cannot show it at all
    headline: Callable[[Sequence[Result]], str] = lambda results: ""
    # Figures that no recorded output shows, by their paths (patterns), and why; "witness." before those of a witness.
    host_word: Mapping[str, str] = field(default_factory=dict)

    @property
    def cap_s(self) -> float:
        # On a busy host a proof takes several times as long, and its mutants run beside it.
        return 120 + 10 * self.seconds

    def scope(self, case: str) -> str:
        """The scope of that case's events."""
        return f"{self.name}/copy {case}" if case in self.on_copies else self.name

    def copy_name(self, case: str) -> str:
        """What the copy is called on which that case runs."""
        return f"{self.name}-{re.sub(r'[^a-z0-9]+', '-', case)}"


def run_case(case: Case, subject: Subject) -> Result:
    """Take one case through its steps. Interrupted passes through; anything else becomes a verdict."""
    host = subject.host
    host.note("case", {"case": case.name, "fault": case.fault, "unit": subject.unit.name, "n_min": case.n_min})
    witness: Json = None
    timeline = Timeline(subject)
    try:
        try:
            case.steady(subject)
        except (NotSteady, WaitTimeout) as error:
            return _judged(host, Result(case.name, Verdict.INCONCLUSIVE, f"no steady state: {error}"))
        host.recorder.intent(f"fault: {case.fault}", scope=host.scope)
        case.inject(subject)
        try:
            shown = encode(case.witness(subject))
            witness = host.note("witness", shown if case.shows_fault(shown) else None)
        except WaitTimeout as error:
            reason = f"no witness that the fault took place: {error}"
            return _judged(host, Result(case.name, Verdict.INCONCLUSIVE, reason))
        if not witness:
            return _judged(host, verdicts.of_checks(case.name, (), witness, 0, case.n_min))
        return _judged(host, judge(case, witness, host.note("measured", encode(case.measure(subject)))))
    except Interrupted:
        raise
    except Exception as error:  # noqa: BLE001 - a case that raises shows nothing: never a PASS
        return _judged(host, Result(case.name, Verdict.ERROR, f"{type(error).__name__}: {error}", witness=witness))
    finally:
        timeline.note(case.name)
        case.release(subject)


def judge(case: Case, witness: Json, measured: dict[str, Json]) -> Result:
    """A case's result by its own rules, from what was recorded and nothing else: on the host, and at the verifier's."""
    try:
        if witness and not case.shows_fault(witness):
            return Result(case.name, Verdict.INCONCLUSIVE, "what was witnessed does not show the fault", (), witness)
        checks = case.judge(case.decode(measured))
        return verdicts.of_checks(case.name, checks, witness, decode(Count, measured["n"], "n"), case.n_min)
    except MemoryError:
        raise  # is told where memory is bounded
    except Exception as error:  # noqa: BLE001 - a case that raises shows nothing: never a PASS
        return Result(case.name, Verdict.ERROR, f"{type(error).__name__}: {error}", witness=witness)


def _judged(host: Host, result: Result) -> Result:
    host.note("judged", result.as_json())
    return result
