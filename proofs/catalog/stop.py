"""stop: told to stop under load, the engine ends with 0 in time, has stored all it admitted, and says the same."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog import mutations
from proofs.catalog._accounting import Counters, imbalance
from proofs.experiment.case import Case, Deployed, Mutant, Proof
from proofs.experiment.exchange import Exchange
from proofs.experiment.measurements import Count, Invocation, Seconds, encode
from proofs.experiment.subject import Changes, Subject, config
from proofs.experiment.trace import Between, Trace
from proofs.host.database import torn_chains
from proofs.host.unit import Entry, engine_lines, exits
from proofs.verdict import Check, Json, Result

BOUND_S = 5.0
RATE = 500  # trades a second
LEAST = 500  # trades sent before the stop
# Much waits to be committed at any moment, so that a stop that does not drain is seen whenever it comes.
SCRATCH = config(
    ingest_mode="MOCK_WS", ws_url="URL", heartbeat_interval_secs=0.5, batch_rows=5000, flush_interval_ms=2000
)
_STOPPING = "Stopping "
_ENDED = ("Deactivated successfully.", "Failed with result ")


@dataclass(frozen=True)
class StopUnderLoad:
    """sent: trades, by the exchange, before systemctl stop and when systemd said that it stops the unit."""

    pid: Count
    invocation: Invocation
    sent: tuple[Count, Count]


@dataclass(frozen=True)
class FinalCounters(Counters):
    signals_stored: Count | None
    orders_stored: Count | None
    trades_stored: Count | None
    risk_vetoes: Count | None


@dataclass(frozen=True, kw_only=True)
class AfterStop:
    """n: trades sent. status: of the process, by systemd; exit_code: by the store. lost: counts of gaps by kind."""

    n: Count
    took_s: Seconds | None
    status: int | None
    active: str
    stored: Count
    once_and_in_order: bool
    exit_code: int | None
    lost: dict[str, Count]
    final: FinalCounters
    store: FinalCounters
    persist_count: Count | None
    torn: list[Count]
    integrity: str


class Stopped(Case):
    name = "SIGTERM under load"
    fault = f"systemctl stop while an exchange sends {RATE} trades a second"
    n_min = LEAST

    def __init__(self, deployed: Deployed) -> None:
        super().__init__(deployed)
        self.exchange: Exchange | None = None

    def steady(self, subject: Subject) -> None:
        self.exchange = exchange = Exchange(subject.host, "mock", rate=RATE, first_id=1)
        subject.fresh()
        subject.put("config.toml", SCRATCH.replace("URL", exchange.url()))
        subject.restart()
        subject.host.wait_for("the load", 20, lambda: exchange.stats(quiet=True)["sent"] >= LEAST, every=0.05)
        subject.host.wait_for("ticks being stored", 10, subject.store.last_tick, every=0.05)

    def inject(self, subject: Subject) -> None:
        assert self.exchange
        self.old = subject.unit.state(quiet=False)
        self.cursor = subject.unit.cursor()
        self.sent_before = int(self.exchange.stats(quiet=True)["sent"])
        self.t0 = time.monotonic()
        subject.host.do("systemctl", "stop", "--no-block", subject.unit.name)

    def witness(self, subject: Subject) -> StopUnderLoad | None:
        """systemd's word that it was told to stop that run, the exchange's that it was sending to it just then."""
        exchange, unit = self.exchange, subject.unit
        assert exchange

        def stopping() -> bool:
            return any(entry.message.startswith(_STOPPING) for entry in unit.journal(self.cursor, quiet=True))

        subject.host.wait_for("systemd to stop it", 5, stopping, every=0.05)
        self.sent = int(exchange.stats()["sent"])
        if not self.old.running or self.sent <= self.sent_before:
            return None
        return StopUnderLoad(self.old.pid, self.old.invocation, (self.sent_before, self.sent))

    def witnessed(self, witness: StopUnderLoad) -> bool:
        before, after = witness.sent
        return witness.pid > 1 and after > before

    def measure(self, subject: Subject) -> AfterStop:
        unit, host, store = subject.unit, subject.host, subject.store
        host.poll("its end", BOUND_S + 7, lambda: _end(unit.journal(self.cursor, quiet=True)), every=0.1)
        entries, after = unit.journal(self.cursor), unit.state(quiet=False)
        ended_s, status = _end(entries) or (None, None)
        finals = engine_lines(entries, "FINAL METRICS", self.old.invocation)
        final = finals[-1][1] if finals else {}
        run = store.runs()[-1]
        ids = [number for number in store.exchange_ids(int(run["id"])) if number is not None]
        gaps = store.gaps(int(run["id"]))
        return AfterStop(
            n=self.sent,
            took_s=round(ended_s - self.t0, 3) if ended_s else None,
            status=status,
            active=after.active,
            stored=len(ids),
            once_and_in_order=ids == sorted(set(ids)),
            exit_code=run["exit_code"],
            lost={gap["kind"]: gap["count"] for gap in gaps if gap["kind"] in ("dropped", "stop")},
            final=FinalCounters.of(final),
            store=FinalCounters.of(run),
            persist_count=final.get("persist_count"),
            torn=torn_chains(store),
            integrity=store.integrity(),
        )

    def traced(self, measured: AfterStop, trace: Trace) -> Mapping[str, Json | Between]:
        entries, announced, before = trace.journal(), trace.intent_of("systemctl", "stop"), trace.intent("fault: ")
        finals = engine_lines(entries, "FINAL METRICS", trace.shown(0)["InvocationID"])
        final = finals[-1][1] if finals else {}
        ended_s, status = _end(entries) or (None, None)
        least, most = before["mono_ns"] / 1e9, announced["mono_ns"] / 1e9
        return {
            "took_s": Between(ended_s - most, ended_s - least) if ended_s else None,
            "status": status,
            "active": trace.shown(-1)["ActiveState"],
            "persist_count": final.get("persist_count"),
            "final": encode(FinalCounters.of(final)),
            "n": trace.stats("mock")["sent"],
        }

    def judge(self, measured: AfterStop) -> Sequence[Check]:
        took_s, final = measured.took_s, measured.final
        if took_s is None:
            return (Check("ended after (s)", None, f"<= {BOUND_S:g}", False, guard=True),)
        store = measured.store.known()
        rows = sum(store[name] for name in ("ticks_stored", "signals_stored", "orders_stored", "trades_stored"))
        balance, dropped, lost = imbalance(store) == 0, store["dropped"], sum(measured.lost.values())
        stored, persisted, status, code = measured.stored, measured.persist_count, measured.status, measured.exit_code
        active, in_order, torn = measured.active, measured.once_and_in_order, measured.torn
        return (
            Check("ended after (s)", took_s, f"<= {BOUND_S:g}", took_s <= BOUND_S, guard=True),
            Check("exit status", status, 0, status == 0, guard=True),
            Check("exit status by the store", code, 0, code == 0, guard=True),
            Check("ticks stored", stored, f"{final.admitted}, all admitted", stored == final.admitted, guard=True),
            Check(
                "FINAL METRICS",
                dict(sorted(encode(final).items())),
                "as in the store",
                final == measured.store,
                guard=True,
            ),
            Check("persist_count", persisted, rows, persisted == rows, guard=True),
            Check("waiting", final.waiting, 0, final.waiting == 0, guard=True),
            Check("state", active, "inactive", active == "inactive", guard=True),
            Check("ticks by the books", store["ticks_stored"], stored, store["ticks_stored"] == stored),
            Check("each trade once, in order", in_order, True, in_order),
            Check("books balance", balance, True, balance),
            Check("dropped, in gaps", lost, dropped, lost == dropped),
            Check("chains that are not whole", torn, [], torn == []),
            Check("integrity_check", measured.integrity, "ok", measured.integrity == "ok"),
        )

    def release(self, subject: Subject) -> None:
        if self.exchange:
            self.exchange.end()


def _end(entries: Sequence[Entry]) -> tuple[float, int] | None:
    """When systemd was done with it, and with which status the process ended: one of 0 is no line of the journal."""
    at = [entry.mono_s for entry in entries if any(word in entry.message for word in _ENDED)]
    others = exits(entries)
    return (at[-1], others[-1][1] if others else 0) if at else None


def cases(deployed: Deployed) -> Sequence[Case]:
    return [Stopped(deployed)]


def _no_drain(unit: Changes) -> None:
    mutations.apply(unit, "stop/no-drain")


def _killed(unit: Changes) -> None:
    unit.directives.append("KillSignal=SIGKILL")


def headline(results: Sequence[Result]) -> str:
    figures = {check.name: check.measured for result in results for check in result.checks}
    end = f"exit {figures.get('exit status')} after {figures.get('ended after (s)')} s"
    if all(result.verdict == "PASS" for result in results):
        return f"{end} with {figures.get('ticks stored')} ticks stored, all that were admitted"
    return end


PROOF = Proof(
    name="stop",
    claim="told to stop under load the engine ends with 0, has stored everything it admitted, and its books say so",
    bound=f"exit 0 in {BOUND_S:g} s, ticks stored = admitted, FINAL METRICS as in the store",
    fault=Stopped.fault,
    seconds=10,
    cases=cases,
    mutants=[
        Mutant("no-drain", "an engine that does not drain the street before it ends", _no_drain, cases),
        Mutant("sigkill", "KillSignal=SIGKILL", _killed, cases),
    ],
    headline=headline,
)
