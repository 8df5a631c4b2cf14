"""failover: whatever way the best source fails, the next one's trades are stored in 2 s, the gap is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from proofs.experiment.case import Case, Deployed, Mutant, Proof
from proofs.experiment.exchange import Exchange, refuses
from proofs.experiment.measurements import Count, Row, Seconds, decode
from proofs.experiment.subject import Changes, Subject, config, sources_of
from proofs.experiment.trace import Between, Trace
from proofs.host.shell import process_state
from proofs.host.unit import Entry, engine_lines
from proofs.verdict import Check, Json, Result

BOUND_S = 2.0
DEAD_AFTER_S = 2.0
PARSE_LIMIT = 20
RATE = 50  # trades a second of each exchange
_CERTIFICATE = Path(__file__).resolve().parent.parent / "mock_exchange" / "data" / "untrusted.pem"
SCRATCH = config(
    ingest_mode="REAL_WS",
    heartbeat_interval_secs=0.5,
    flush_interval_ms=100,
    dead_after_s=DEAD_AFTER_S,
    parse_error_limit=PARSE_LIMIT,
)
_START_S = 4.0  # for the process to start, where the fault is met at its first try to connect
_SLACK_MS = 100  # clocks are one and the same; this is for the way from the exchange to the engine


class Shown:
    """That the primary failed, by a look at it from outside."""

    @classmethod
    def look(cls, exchange: Exchange) -> Self | None:
        """None while it does not show."""
        raise NotImplementedError

    def holds(self) -> bool:
        """Whether what was recorded shows it."""
        raise NotImplementedError


@dataclass(frozen=True)
class ConnectionClosed(Shown):
    connection: Count
    closed_ms: Count

    @classmethod
    def look(cls, exchange: Exchange) -> Self | None:
        closed = [one for one in exchange.stats(quiet=True)["connections"] if not one["open"]]
        return cls(closed[0]["id"], closed[0]["closed_ms"]) if closed else None

    def holds(self) -> bool:
        return self.connection > 0 and self.closed_ms > 0


@dataclass(frozen=True)
class PortRefuses(Shown):
    port: Count
    probe: str

    @classmethod
    def look(cls, exchange: Exchange) -> Self | None:
        return cls(exchange.port, "connection refused") if refuses(exchange.port) else None

    def holds(self) -> bool:
        return self.port > 0 and self.probe == "connection refused"


@dataclass(frozen=True)
class Answered451(Shown):
    """answered: how many connections were answered, by HTTP status."""

    answered: dict[str, Count]

    @classmethod
    def look(cls, exchange: Exchange) -> Self | None:
        seen = cls(exchange.stats(quiet=True)["rejected_by_status"])
        return seen if seen.holds() else None

    def holds(self) -> bool:
        return self.answered.get("451", 0) > 0


@dataclass(frozen=True)
class ExchangeStopped(Shown):
    pid: Count
    state: str

    @classmethod
    def look(cls, exchange: Exchange) -> Self | None:
        state = process_state(exchange.pid)
        return cls(exchange.pid, state) if state == "T" else None

    def holds(self) -> bool:
        return self.pid > 1 and self.state == "T"


@dataclass(frozen=True)
class GarbageSent(Shown):
    garbage: Count

    @classmethod
    def look(cls, exchange: Exchange) -> Self | None:
        sent = cls(exchange.stats(quiet=True)["garbage"])
        return sent if sent.holds() else None

    def holds(self) -> bool:
        return self.garbage >= PARSE_LIMIT


@dataclass(frozen=True)
class TlsHello(Shown):
    tls_hellos: Count
    accepted: Count

    @classmethod
    def look(cls, exchange: Exchange) -> Self | None:
        stats = exchange.stats(quiet=True)
        return cls(stats["tls_hellos"], stats["accepted"]) if stats["tls_hellos"] else None

    def holds(self) -> bool:
        return self.tls_hellos > 0


Witness = ConnectionClosed | PortRefuses | Answered451 | ExchangeStopped | GarbageSent | TlsHello


@dataclass(frozen=True)
class How:
    """A way to fail. at_connect: it is met when the engine connects, so the engine is started into it."""

    name: str
    fault: str
    inject: Callable[[Exchange], dict[str, Json]]
    witness: type[Shown]  # what shows that it took place
    at_connect: bool = False
    bound_s: float = BOUND_S
    tls: bool = False
    gap_kind: str = "down"


@dataclass(frozen=True)
class NotTakenOver:
    n: Count
    stored_s: None
    fault_ms: Count


@dataclass(frozen=True, kw_only=True)
class TakenOver:
    """stored_s: from the fault to a stored tick of the secondary; received_s: to its receipt. gaps: of the primary."""

    n: Count
    stored_s: Seconds | None
    fault_ms: Count
    received_s: float
    last_primary_ms: Count | None
    first_secondary_ms: Count
    gaps: list[Row]
    rejected: Count
    gap_kind: str
    garbage_sent: Count
    secondary_sent: Count
    said: list[dict[str, Any]]


class Failover(Case):
    def __init__(self, deployed: Deployed, how: How) -> None:
        super().__init__(deployed)
        self.how = how
        self.name, self.fault = how.name, how.fault
        self.exchanges: dict[str, Exchange] = {}

    def steady(self, subject: Subject) -> None:
        """Both exchanges trade; unless the fault is one of connecting, the engine stores the primary's trades."""
        tls = {"tls_cert": str(_CERTIFICATE), "tls_key": str(_CERTIFICATE)} if self.how.tls else {}
        start = partial(Exchange, subject.host, rate=RATE, heartbeat=0.5)
        with ThreadPoolExecutor() as pool:  # starting is most of what a case costs: all at once
            starting = {
                "primary": pool.submit(start, "primary", first_id=1, **tls),
                "secondary": pool.submit(start, "secondary", first_id=1_000_000),
            }
            subject.fresh()
            for name, one in starting.items():
                self.exchanges[name] = one.result()
        subject.put("config.toml", SCRATCH)
        subject.put_sources(sources_of(self.exchanges))
        self.cursor = subject.unit.cursor()
        if self.how.at_connect:
            return
        subject.restart()
        subject.host.wait_for("the primary's trades", 15, lambda: subject.store.first_of("primary"), every=0.05)

    def inject(self, subject: Subject) -> None:
        self.answer = self.how.inject(self.exchanges["primary"])
        if self.how.at_connect:
            subject.restart()
            self.t0_s = subject.unit.state(quiet=False).started_s  # it meets the fault when it connects: see measure
        else:
            self.t0_s = self.answer["mono_ns"] / 1e9

    def witness(self, subject: Subject) -> Shown:
        primary = self.exchanges["primary"]
        return subject.host.wait_for("the fault to bite", 5, lambda: self.how.witness.look(primary), every=0.02)

    def witnessed(self, witness: Witness) -> bool:
        return isinstance(witness, self.how.witness) and witness.holds()

    def measure(self, subject: Subject) -> NotTakenOver | TakenOver:
        store, host, bound = subject.store, subject.host, self.how.bound_s
        start_s = _START_S if self.how.at_connect else 0.0
        left = max(0.1, self.t0_s + start_s + bound + 0.5 - time.monotonic())
        row = host.poll("a stored tick of the secondary", left, lambda: store.first_of("secondary"), every=0.02)
        stored_s = time.monotonic()
        entries = subject.unit.journal(self.cursor)
        fault_s = min([entry.mono_s for entry in _connecting(entries)], default=self.t0_s)
        fault_s = fault_s if self.how.at_connect else self.t0_s
        fault_ms = round((time.time() - time.monotonic() + fault_s) * 1000)
        if row is None:
            return NotTakenOver(1, None, fault_ms)
        last = store.last_of("primary", int(row["id"]))
        # The row may be committed a moment before the counters' heartbeat closes its gaps: ask until both are there.
        run = subject.run_id()
        kind = self.how.gap_kind
        host.poll("its gap", 2, lambda: _of(store.gaps(run), kind), every=0.1)
        gaps = _of(store.gaps(run), kind)
        return TakenOver(
            n=1,
            stored_s=round(stored_s - fault_s, 3),
            fault_ms=fault_ms,
            received_s=round((row["received_ms"] - fault_ms) / 1000, 3),
            last_primary_ms=last["received_ms"] if last else None,
            first_secondary_ms=row["received_ms"],
            gaps=gaps,
            rejected=sum(gap["count"] or 0 for gap in gaps),
            gap_kind=kind,
            garbage_sent=self.exchanges["primary"].stats()["garbage"] if kind == "rejected" else 0,
            secondary_sent=self.exchanges["secondary"].stats()["sent"],
            said=[fields for _, fields in engine_lines(entries, "source failed")][-1:],
        )

    def traced(self, measured: NotTakenOver | TakenOver, trace: Trace) -> Mapping[str, Json | Between]:
        stored = trace.waits("a stored tick of the secondary")[-1]
        least, most = self._began(trace)
        if not stored["data"]["came"]:
            return {"stored_s": None}
        now = stored["mono_ns"] / 1e9
        figures: dict[str, Json | Between] = {
            "stored_s": Between(now - most, trace.after(stored)["mono_ns"] / 1e9 - least),
            "fault_ms": Between(trace.wall_ms(stored, least) - _SLACK_MS, trace.wall_ms(stored, most) + _SLACK_MS),
            "secondary_sent": trace.stats("secondary")["sent"],
        }
        if self.how.gap_kind == "rejected":
            figures["garbage_sent"] = trace.stats("primary")["garbage"]
        return figures

    def _began(self, trace: Trace) -> tuple[float, float]:
        """When the fault was met, on CLOCK_MONOTONIC: by the exchange, by the engine's journal, or by two events."""
        if self.how.at_connect:
            met = [entry.mono_s for entry in _connecting(trace.journal())]
            begun = min(met, default=int(trace.shown(-1)["ExecMainStartTimestampMonotonic"]) / 1e6)
            return begun, begun
        answers = trace.notes("exchange said", "primary")
        if answers:
            at = answers[-1]["mono_ns"] / 1e9
            return at, at
        announced = trace.intent("kill -STOP ")
        return trace.intent("fault: ")["mono_ns"] / 1e9, announced["mono_ns"] / 1e9

    def judge(self, measured: NotTakenOver | TakenOver) -> Sequence[Check]:
        stored, bound = measured.stored_s, self.how.bound_s
        in_time = stored is not None and stored <= bound
        checks = [Check("secondary stored (s)", stored, f"<= {bound:g}", in_time, guard=True)]
        if isinstance(measured, NotTakenOver) or stored is None:
            return checks
        if self.how.gap_kind == "rejected":
            sent, rejected = measured.garbage_sent, measured.rejected
            checks.append(
                Check("rejected in gaps", rejected, f"{sent}, all garbage sent", rejected == sent >= PARSE_LIMIT)
            )
            return checks
        # The recorded silence has to span all from the last that was heard before the fault to the first after it.
        last_ms = measured.last_primary_ms
        begin, end = max(measured.fault_ms, last_ms or 0) + _SLACK_MS, measured.first_secondary_ms
        spans = [decode(tuple[Count, Count | None], [gap.get("from_ms"), gap.get("to_ms")]) for gap in measured.gaps]
        latest = end if last_ms is None else begin  # where it never spoke, the gap begins when it was first tried
        covered = any(start <= latest and (stop is None or stop >= end - _SLACK_MS) for start, stop in spans)
        checks.append(Check("gap", spans, f"from <= {begin}, to >= {end} (ms)", covered))
        return checks

    def release(self, subject: Subject) -> None:
        for exchange in self.exchanges.values():
            exchange.end()


def _of(gaps: list[dict[str, Json]], kind: str) -> list[dict[str, Json]]:
    return [gap for gap in gaps if gap["kind"] == kind and gap["source"] == "primary"]


def _connecting(entries: Sequence[Entry]) -> list[Entry]:
    """When the engine turned to the primary: it says so first, so from then on the fault can be met."""
    return [entry for entry, fields in engine_lines(entries, "connecting") if fields.get("source") == "primary"]


def _freeze(exchange: Exchange) -> dict[str, Json]:
    at = time.monotonic_ns()
    exchange.freeze()
    return {"mono_ns": at}


HOWS = (
    How("closes", "the primary closes the connection", lambda exchange: exchange.tell("close"), ConnectionClosed),
    How(
        "refuses", "the primary's port refuses", lambda exchange: exchange.tell("refuse"), PortRefuses, at_connect=True
    ),
    How(
        "answers 451",
        "the primary answers HTTP 451",
        lambda exchange: exchange.tell("http", status=451, times=-1),
        Answered451,
        at_connect=True,
    ),
    How("goes silent", "SIGSTOP of the primary", _freeze, ExchangeStopped, bound_s=DEAD_AFTER_S + BOUND_S),
    How(
        "sends garbage",
        f"the primary sends {PARSE_LIMIT} undecodable trade frames",
        lambda exchange: exchange.tell("garbage", n=PARSE_LIMIT, scope="open"),
        GarbageSent,
        gap_kind="rejected",
    ),
    How(
        "bad certificate",
        "the primary presents a certificate nobody vouches for",
        lambda exchange: {},
        TlsHello,
        at_connect=True,
        tls=True,
    ),
)


def cases(deployed: Deployed) -> Sequence[Case]:
    return [Failover(deployed, how) for how in HOWS]


def mutant_cases(deployed: Deployed) -> Sequence[Case]:
    """One of each kind: a connection that ends, one that is never made, one that talks nonsense."""
    return [Failover(deployed, how) for how in HOWS if how.name in ("closes", "refuses", "sends garbage")]


def _one_source(unit: Changes) -> None:
    unit.pick_sources = lambda sources: sources[:1]


def headline(results: Sequence[Result]) -> str:
    times = []
    for result in results:
        stored = {check.name: check.measured for check in result.checks}.get("secondary stored (s)")
        times.append(f"{result.case} {stored} s")
    return ", ".join(times)


PROOF = Proof(
    name="failover",
    claim="when the best source fails in any way, the next one's trades are stored in time and the gap is recorded",
    bound=f"{BOUND_S:g} s (silence: dead_after_s {DEAD_AFTER_S:g} + {BOUND_S:g} s)",
    fault="the primary closes, refuses, answers 451, goes silent, sends garbage, has a bad certificate",
    seconds=14,
    cases=cases,
    mutants=[Mutant("one-source", "one source instead of two", _one_source, mutant_cases)],
    headline=headline,
)
