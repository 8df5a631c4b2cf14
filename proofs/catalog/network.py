"""network: with every source refusing the engine ends with 10, comes back at a pace, and works again when one does."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from proofs.catalog._recovery import DEADLINE_S, Lasting, Recovered, Recovery, headline
from proofs.experiment.case import Case, Deployed, Mutant, Proof
from proofs.experiment.exchange import Exchange, refuses
from proofs.experiment.measurements import Count, Seconds
from proofs.experiment.subject import Changes, Subject, config, sources_of
from proofs.experiment.trace import Trace
from proofs.verdict import Check

RATE = 50  # trades a second of each exchange
_TRIES_A_S = 2.0  # to each source; three times what its pauses come to on average
SCRATCH = config(
    ingest_mode="REAL_WS", heartbeat_interval_secs=0.5, flush_interval_ms=100, network_deadline_s=DEADLINE_S
)


class TwoSources(Recovery):
    """Two exchanges, the engine on them, and whatever makes both of no use."""

    def __init__(self, deployed: Deployed) -> None:
        super().__init__(deployed)
        self.exchanges: dict[str, Exchange] = {}

    def steady(self, subject: Subject) -> None:
        with ThreadPoolExecutor() as pool:
            starting = {
                name: pool.submit(Exchange, subject.host, name, rate=RATE, first_id=first)
                for name, first in (("primary", 1), ("secondary", 1_000_000))
            }
            subject.fresh()
            self.exchanges = {name: one.result() for name, one in starting.items()}
        subject.put("config.toml", SCRATCH)
        subject.put_sources(sources_of(self.exchanges))
        subject.restart()
        subject.host.wait_for("the primary's trades", 15, lambda: subject.store.first_of("primary"), every=0.05)
        self.cursor = subject.unit.cursor()

    def release(self, subject: Subject) -> None:
        for exchange in self.exchanges.values():
            exchange.end()


@dataclass(frozen=True)
class Refusals:
    """probe: how a connection of our own to that port of the primary fared."""

    probe: str
    port: Count


@dataclass(frozen=True, kw_only=True)
class WhileRefused(Lasting):
    """tries: connections that the secondary refused."""

    tries: Count
    tries_a_s: Seconds


@dataclass(frozen=True, kw_only=True)
class AfterRefusal(WhileRefused, Recovered):
    """down_of: sources with a gap `down`. stored_10: runs stored as ended with 10. back_by: whose ticks are new."""

    down_of: list[str]
    stored_10: Count
    back_by: str | None


class Refused(TwoSources):
    name = "every source refuses"
    fault = "the primary's port refuses, the secondary answers HTTP 503"
    code = 10

    def inject(self, subject: Subject) -> None:
        self.exchanges["secondary"].tell("http", status=503, times=-1)
        self.t0 = self.exchanges["primary"].tell("refuse")["mono_ns"] / 1e9

    def witness(self, subject: Subject) -> Refusals | None:
        """By a connection of our own to the one, by what the other counted."""
        primary, secondary = self.exchanges.values()

        def answered() -> int:
            return int(secondary.stats(quiet=True)["rejected_by_status"].get("503", 0))

        subject.host.wait_for("the secondary to be asked", 5, answered, every=0.05)
        return Refusals("connection refused", primary.port) if refuses(primary.port) else None

    def witnessed(self, witness: Refusals) -> bool:
        return witness.probe == "connection refused" and witness.port > 0

    def measure(self, subject: Subject) -> WhileRefused | AfterRefusal:
        return self.run_fault(subject, WhileRefused, AfterRefusal)

    def began(self, trace: Trace) -> tuple[float, float]:
        at = [note["mono_ns"] for note in trace.notes("exchange said", "primary") if note["command"] == "refuse"]
        return at[0] / 1e9, at[0] / 1e9

    def figures_during(self, subject: Subject, seconds: float) -> dict[str, Any]:
        """What the secondary counted itself, and the span in which it did."""
        tries = self.exchanges["secondary"].stats()["rejected_by_status"].get("503", 0)
        return {"tries": tries, "tries_a_s": round(tries / seconds, 3)}

    def lift(self, subject: Subject) -> None:
        self.exchanges["secondary"].tell("behave")

    def figures_after(self, subject: Subject) -> dict[str, Any]:
        down = [gap for run in subject.store.runs() for gap in subject.store.gaps(int(run["id"]))]
        return {
            "down_of": sorted({gap["source"] for gap in down if gap["kind"] == "down"}),
            "stored_10": [run["exit_code"] for run in subject.store.runs()].count(10),
            "back_by": "secondary" if subject.store.first_of("secondary") else None,
        }

    def judge(self, measured: WhileRefused | AfterRefusal) -> Sequence[Check]:
        checks = self.checks(measured)
        tries = measured.tries_a_s
        checks.append(Check("connections tried a second", tries, f"0 < n <= {_TRIES_A_S:g}", 0 < tries <= _TRIES_A_S))
        if isinstance(measured, AfterRefusal) and measured.back_s is not None:
            both, stored, ends, back_by = measured.down_of, measured.stored_10, len(measured.ends), measured.back_by
            checks += [
                Check("gaps `down` of", both, ["primary", "secondary"], both == ["primary", "secondary"]),
                Check("runs stored as ended with 10", stored, f">= {ends}", stored >= ends),
                Check("new ticks by", back_by, "secondary", back_by == "secondary"),
            ]
        return checks


def cases(deployed: Deployed) -> Sequence[Case]:
    return [Refused(deployed)]


def _start_limit(unit: Changes) -> None:
    unit.directives += ["[Unit]", "StartLimitIntervalSec=60", "StartLimitBurst=2", "[Service]"]


PROOF = Proof(
    name="network",
    claim="with every source refusing the engine ends with 10, is restarted at a pace, and recovers by itself",
    bound=f"10 after network_deadline_s ({DEADLINE_S:g} s) + 3 s, at most {_TRIES_A_S:g} connections a second, never"
    " down for good, a tick in deadline + RestartSec + 5 s",
    fault=Refused.fault,
    seconds=24,
    cases=cases,
    mutants=[Mutant("start-limit", "StartLimitIntervalSec=60, StartLimitBurst=2", _start_limit, cases)],
    notes=f"network_deadline_s is {DEADLINE_S:g} s in the scratch config",
    headline=headline,
)
