"""parse: with every source sending garbage the engine ends with 11, comes back at a pace, and works again after it."""

from __future__ import annotations

from collections.abc import Sequence

from proofs.catalog import mutations
from proofs.catalog._recovery import DEADLINE_S, headline
from proofs.catalog.network import Sources
from proofs.experiment.case import Case, Deployed, Mutant, Proof
from proofs.experiment.measurements import Figures
from proofs.experiment.subject import Copy, Subject
from proofs.experiment.trace import Trace
from proofs.verdict import Check, Json

PARSE_LIMIT = 20  # the engine's default: so many in a row make a source useless
_TRIES_A_S = 4.0  # to both sources together


class Spoiled(Sources):
    name = "every source sends garbage"
    fault = "both exchanges send undecodable trade frames instead of trades, to every connection"
    code = 11

    def inject(self, subject: Subject) -> None:
        said = [one.tell("garbage", n=-1, scope="all") for one in self.exchanges.values()]
        self.t0 = said[0]["mono_ns"] / 1e9  # the primary's: the engine reads that one

    def witness(self, subject: Subject) -> Json:
        """By the exchanges' own counts: the one in use at first sent enough of it, the other one soon after."""

        def sent() -> dict[str, int] | None:
            counts = {name: int(one.stats(quiet=True)["garbage"]) for name, one in self.exchanges.items()}
            return counts if counts["primary"] >= PARSE_LIMIT else None

        return {"garbage": subject.host.wait_for("garbage to be sent", 5, sent, every=0.05)}

    def witnessed(self, seen: Figures) -> bool:
        return seen.below("garbage").count("primary") >= PARSE_LIMIT

    def began(self, trace: Trace) -> tuple[float, float]:
        at = [said["mono_ns"] for said in trace.notes("exchange said", "primary") if said["command"] == "garbage"]
        return at[0] / 1e9, at[0] / 1e9

    def more(self, subject: Subject, seconds: float) -> dict[str, Json]:
        stats = {name: one.stats() for name, one in self.exchanges.items()}
        accepted = sum(one["accepted"] for one in stats.values())
        return {
            "tries_a_s": round(accepted / seconds, 3),
            "garbage": {name: one["garbage"] for name, one in stats.items()},
        }

    def lift(self, subject: Subject) -> None:
        self.exchanges["secondary"].tell("behave")

    def after(self, subject: Subject) -> dict[str, Json]:
        runs = subject.store.runs()
        return {
            "rejected": sum(run["rejected"] for run in runs),
            "stored_11": [run["exit_code"] for run in runs].count(11),
        }

    def judge(self, measured: Figures) -> Sequence[Check]:
        checks = list(super().judge(measured))
        ends = len(measured.all("ends"))
        if not ends:
            return checks
        tries = measured.number("tries_a_s")
        checks.append(Check("connections tried a second", tries, f"0 < n <= {_TRIES_A_S:g}", 0 < tries <= _TRIES_A_S))
        if measured.maybe("back_s") is not None:
            rejected, stored = measured.count("rejected"), measured.count("stored_11")
            sent = {name: measured.below("garbage").count(name) for name in ("primary", "secondary")}
            least = PARSE_LIMIT * 2 * ends  # each run that ended so had to leave both sources for it
            checks += [
                Check("rejected, booked", rejected, f">= {least}", rejected >= least),
                Check("garbage of both", sent, f">= {PARSE_LIMIT} each", min(sent.values()) >= PARSE_LIMIT),
                Check("runs stored as ended with 11", stored, f">= {ends}", stored >= ends),
            ]
        return checks


def cases(deployed: Deployed) -> Sequence[Case]:
    return [Spoiled(deployed)]


def _patient(copy: Copy) -> None:
    mutations.apply(copy, "parse/ignores-garbage")


PROOF = Proof(
    name="parse",
    claim="with every source sending garbage the engine ends with 11, is restarted at a pace, and recovers by itself",
    bound=f"11 after network_deadline_s ({DEADLINE_S:g} s) + 3 s, at most {_TRIES_A_S:g} connections a second, never"
    " down for good, a tick in deadline + RestartSec + 5 s",
    fault=Spoiled.fault,
    seconds=14,
    cases=cases,
    mutants=[
        Mutant("ignores-garbage", "frames that do not decode are never held against their source", _patient, cases)
    ],
    notes=f"network_deadline_s is {DEADLINE_S:g} s in the scratch config",
    headline=headline,
)
