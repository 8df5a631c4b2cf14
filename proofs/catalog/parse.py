"""parse: with every source sending garbage the engine ends with 11, is restarted at a pace, and recovers afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proofs.catalog._checks import at_least
from proofs.catalog._recovery import DEADLINE_S, headline
from proofs.catalog.mutations import patched
from proofs.catalog.network import Compared, TwoSources
from proofs.experiment.case import Proof
from proofs.experiment.measurements import Count, Seconds
from proofs.experiment.subject import Subject
from proofs.experiment.trace import mono_s
from proofs.verdict import Check

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

        def sent() -> OfEach | None:
            counts = OfEach(**{name: one.stats(quiet=True)["garbage"] for name, one in self.exchanges.items()})
            return counts if counts.primary >= PARSE_LIMIT else None

        return GarbageSent(subject.host.wait_for("garbage to be sent", 5, sent, every=0.05))

    def witnessed(self, witness: GarbageSent) -> bool:
        return witness.garbage.primary >= PARSE_LIMIT

    def measure(self, subject: Subject) -> AfterGarbage:
        return AfterGarbage(**self.run_fault(subject))

    def figures_during(self, subject: Subject, seconds: float) -> dict[str, Any]:
        stats = {name: one.stats() for name, one in self.exchanges.items()}
        accepted = sum(one["accepted"] for one in stats.values())
        return {
            "tries_a_s": round(accepted / seconds, 3),
            "garbage": OfEach(**{name: one["garbage"] for name, one in stats.items()}),
        }

    def figures_after(self, subject: Subject) -> dict[str, Any]:
        runs = subject.store.runs()
        return {
            "rejected": sum(run["rejected"] for run in runs),
            "stored_11": [run["exit_code"] for run in runs].count(11),
            "rows": self.compare_rows(subject),
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


PROOF = Proof(
    name="parse",
    claim="with every source sending garbage the engine ends with 11, is restarted at a pace, and recovers by itself",
    bound=f"11 after network_deadline_s ({DEADLINE_S:g} s) + 3 s, at most {_TRIES_A_S:g} connections a second, never"
    " down for good, a tick in deadline + RestartSec + 5 s",
    fault=Spoiled.fault,
    seconds=17,
    cases=Spoiled.alone,
    mutants=[patched("parse/ignores-garbage", Spoiled.alone)],
    notes=f"network_deadline_s is {DEADLINE_S:g} s in the scratch config",
    headline=headline,
)
