"""parse: with every source sending garbage the engine ends with 11, is restarted at a pace, and recovers afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proofs.catalog._checks import at_least, figures
from proofs.catalog._complaint import Complaint
from proofs.catalog._recovery import DEADLINE_S, headline
from proofs.catalog.mutations import patched
from proofs.catalog.network import Compared, TwoSources
from proofs.experiment.case import Proof
from proofs.experiment.measurements import Count, Seconds, encode, figures_of
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace, mono_s
from proofs.host.database import Store
from proofs.verdict import Check, Json, Result

PARSE_LIMIT = 20  # the engine's default: so many in a row make a source useless
_TRIES_A_S = 4.0  # to both sources together


@dataclass(frozen=True)
class OfEach:
    primary: Count
    secondary: Count


@dataclass(frozen=True)
class GarbageSent:
    garbage: OfEach


@dataclass(frozen=True, kw_only=True)
class AfterGarbage(Compared):
    """tries_a_s: connections to both. garbage: undecodable frames that each sent.

    rejected: counted by all runs together. stored_11: runs stored as ended with 11.
    """

    tries_a_s: Seconds
    garbage: OfEach
    rejected: Count | None = None
    stored_11: Count | None = None


class Spoiled(TwoSources):
    name = "every source sends garbage"
    fault = "both exchanges send undecodable trade frames instead of trades, to every connection"
    code = 11
    command = "garbage"

    def inject(self, subject: Subject) -> None:
        answers = [one.tell(self.command, n=-1, scope="all") for one in self.exchanges.values()]
        self.t0 = mono_s(answers[0])  # the primary's: the engine reads that one

    def witness(self, subject: Subject) -> GarbageSent:
        """By the exchanges' own counts: the one in use at first sent enough of it, the other one soon after."""

        def enough() -> bool:
            return int(self.exchanges["primary"].stats(quiet=True)["garbage"]) >= PARSE_LIMIT

        subject.host.wait_for("garbage to be sent", 5, enough, every=0.05)
        return GarbageSent(_garbage({name: one.stats() for name, one in self.exchanges.items()}))

    def traced_witness(self, witness: GarbageSent, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(GarbageSent(_garbage(_stats(trace, 0))))

    def witnessed(self, witness: GarbageSent) -> bool:
        return witness.garbage.primary >= PARSE_LIMIT

    def measure(self, subject: Subject) -> AfterGarbage:
        return AfterGarbage(**self.run_fault(subject))

    def figures_during(self, subject: Subject, seconds: float) -> dict[str, Any]:
        return _tries({name: one.stats() for name, one in self.exchanges.items()}, seconds)

    def traced_during(self, seconds: float, trace: Trace) -> dict[str, Json]:
        return {name: encode(figure) for name, figure in _tries(_stats(trace, -1), seconds).items()}

    def figures_of_store(self, store: Store) -> dict[str, Json]:
        runs = store.runs()
        return {
            "rejected": sum(run["rejected"] for run in runs),
            "stored_11": [run["exit_code"] for run in runs].count(11),
        }

    def judge(self, measured: AfterGarbage) -> Sequence[Check]:
        checks = self.checks(measured)
        if not (ends := len(measured.ends)):
            return checks
        checks.append(self.tries(measured.tries_a_s, _TRIES_A_S))
        if measured.back_s is not None:
            sent = vars(measured.garbage)
            checks += [
                # Each run that ended so had to leave both sources for it.
                at_least("rejected, counted", measured.rejected, PARSE_LIMIT * 2 * ends),
                Check("garbage of both", sent, f">= {PARSE_LIMIT} each", min(sent.values()) >= PARSE_LIMIT),
                at_least("runs stored as ended with 11", measured.stored_11, ends),
                *self.checks_of_rows(measured.rows),
            ]
        return checks


Stats = Mapping[str, dict[str, Json]]  # an exchange's counts, by its name


def _stats(trace: Trace, number: int) -> Stats:
    """The number-th recorded counts of each."""
    return {name: trace.stats(name, number) for name in ("primary", "secondary")}


def _garbage(stats: Stats) -> OfEach:
    return OfEach(**{name: one["garbage"] for name, one in stats.items()})


def _tries(stats: Stats, seconds: float) -> dict[str, Any]:
    accepted = sum(one["accepted"] for one in stats.values())
    return {"tries_a_s": round(accepted / seconds, 3), "garbage": _garbage(stats)}


def _headline(results: Sequence[Result]) -> str:
    spoiled = [one for one in results if one.case != Complaint.name]
    told = figures([one for one in results if one.case == Complaint.name]).get("complaints told")
    return f"{headline(spoiled)}; complaints told: {told}"


PROOF = Proof(
    name="parse",
    claim="with every source sending garbage the engine ends with 11, is restarted at a pace, and recovers by itself",
    bound=f"11 after network_deadline_s ({DEADLINE_S:g} s) + 3 s, at most {_TRIES_A_S:g} connections a second, never"
    " down for good, a tick in deadline + RestartSec + 5 s",
    fault=Spoiled.fault,
    seconds=22,
    cases=lambda deployed: [Spoiled(deployed), Complaint(deployed)],
    mutants=[patched("parse/ignores-garbage", Spoiled.alone), patched("parse/deaf", Complaint.alone)],
    notes=f"network_deadline_s is {DEADLINE_S:g} s in the scratch config",
    headline=_headline,
)
