"""network: with every source refusing the engine ends with 10, comes back at a pace, and works again when one does."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from proofs.catalog._recovery import DEADLINE_S, ComesBack, headline
from proofs.experiment.case import Case, Deployed, Mutant, Proof
from proofs.experiment.exchange import Exchange, refuses
from proofs.experiment.measurements import Figures
from proofs.experiment.subject import Copy, Subject, config
from proofs.experiment.trace import Trace
from proofs.verdict import Check, Json

RATE = 50  # trades a second of each exchange
_TRIES_A_S = 2.0  # to each source; three times what its pauses come to on average
SCRATCH = config(
    ingest_mode="REAL_WS", heartbeat_interval_secs=0.5, flush_interval_ms=100, network_deadline_s=DEADLINE_S
)


class Sources(ComesBack):
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
        subject.put_sources([
            {"name": name, "url": exchange.url(), "kind": "binance", "symbol": "BTC/USD", "priority": priority}
            for priority, (name, exchange) in enumerate(self.exchanges.items(), 1)
        ])  # fmt: skip
        subject.restart()
        subject.host.wait_for("the primary's trades", 15, lambda: subject.store.first_of("primary"), every=0.05)
        self.cursor = subject.unit.cursor()

    def release(self, subject: Subject) -> None:
        for exchange in self.exchanges.values():
            exchange.end()


class Refused(Sources):
    name = "every source refuses"
    fault = "the primary's port refuses, the secondary answers HTTP 503"
    code = 10

    def inject(self, subject: Subject) -> None:
        self.exchanges["secondary"].tell("http", status=503, times=-1)
        self.t0 = self.exchanges["primary"].tell("refuse")["mono_ns"] / 1e9

    def witness(self, subject: Subject) -> Json:
        """By a connection of our own to the one, by what the other counted."""
        primary, secondary = self.exchanges.values()

        def answered() -> int:
            return int(secondary.stats(quiet=True)["rejected_by_status"].get("503", 0))

        subject.host.wait_for("the secondary to be asked", 5, answered, every=0.05)
        return {"probe": "connection refused", "port": primary.port} if refuses(primary.port) else None

    def witnessed(self, seen: Figures) -> bool:
        return seen.text("probe") == "connection refused" and seen.count("port") > 0

    def began(self, trace: Trace) -> tuple[float, float]:
        at = [said["mono_ns"] for said in trace.notes("exchange said", "primary") if said["command"] == "refuse"]
        return at[0] / 1e9, at[0] / 1e9

    def more(self, subject: Subject, seconds: float) -> dict[str, Json]:
        """What the secondary counted itself, and the span in which it did."""
        tries = self.exchanges["secondary"].stats()["rejected_by_status"].get("503", 0)
        return {"tries": tries, "tries_a_s": round(tries / seconds, 3)}

    def lift(self, subject: Subject) -> None:
        self.exchanges["secondary"].tell("behave")

    def after(self, subject: Subject) -> dict[str, Json]:
        down = [gap for run in subject.store.runs() for gap in subject.store.gaps(int(run["id"]))]
        return {
            "down_of": sorted({gap["source"] for gap in down if gap["kind"] == "down"}),
            "stored_10": [run["exit_code"] for run in subject.store.runs()].count(10),
            "back_by": "secondary" if subject.store.first_of("secondary") else None,
        }

    def judge(self, measured: Figures) -> Sequence[Check]:
        checks = list(super().judge(measured))
        tries = measured.number("tries_a_s")
        checks.append(Check("connections tried a second", tries, f"0 < n <= {_TRIES_A_S:g}", 0 < tries <= _TRIES_A_S))
        if measured.maybe("back_s") is not None:
            both, stored, ends = measured.texts("down_of"), measured.count("stored_10"), len(measured.all("ends"))
            back_by = measured.of("back_by")
            checks += [
                Check("gaps `down` of", both, ["primary", "secondary"], both == ["primary", "secondary"]),
                Check("runs stored as ended with 10", stored, f">= {ends}", stored >= ends),
                Check("new ticks by", back_by, "secondary", back_by == "secondary"),
            ]
        return checks


def cases(deployed: Deployed) -> Sequence[Case]:
    return [Refused(deployed)]


def _start_limit(copy: Copy) -> None:
    copy.directives += ["[Unit]", "StartLimitIntervalSec=60", "StartLimitBurst=2", "[Service]"]


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
