"""failover: whatever way the best source fails, the next one's trades are stored in 2 s, the gap is booked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from proofs.experiment.case import Case, Deployed, Mutant, Proof
from proofs.experiment.exchange import Exchange, refuses
from proofs.experiment.measurements import Figures
from proofs.experiment.subject import Copy, Subject, config
from proofs.experiment.trace import Between, Trace
from proofs.host.shell import process_state
from proofs.host.unit import Entry, engine_lines
from proofs.verdict import Check, Json, Result

BOUND_S = 2.0
DEAD_AFTER_S = 2.0
PARSE_LIMIT = 20
RATE = 50  # trades a second of each exchange
_CERTIFICATE = Path(__file__).resolve().parent.parent / "mock_exchange" / "data" / "untrusted.pem"
_START_S = 4.0  # for the process to start, where the fault is met at its first try to connect
_SLACK_MS = 100  # clocks are one and the same; this is for the way from the exchange to the engine


@dataclass(frozen=True)
class How:
    """A way to fail. at_connect: it is met when the engine connects, so the engine is started into it."""

    name: str
    fault: str
    inject: Callable[[Exchange], dict[str, Json]]
    happened: Callable[[Exchange, dict[str, Json]], Json]
    shows: Callable[[Figures], bool]  # of what `happened` told: whether it is so
    at_connect: bool = False
    bound_s: float = BOUND_S
    tls: bool = False
    gap_kind: str = "down"


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
        subject.put(
            "config.toml",
            config(ingest_mode="REAL_WS", heartbeat_interval_secs=0.5, flush_interval_ms=100, dead_after_s=DEAD_AFTER_S,
                   parse_error_limit=PARSE_LIMIT),
        )  # fmt: skip
        subject.put_sources([
            {"name": name, "url": exchange.url(), "kind": "binance", "symbol": "BTC/USD", "priority": priority}
            for priority, (name, exchange) in enumerate(self.exchanges.items(), 1)
        ])  # fmt: skip
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

    def witness(self, subject: Subject) -> Json:
        primary = self.exchanges["primary"]
        return subject.host.wait_for(
            "the fault to bite", 5, lambda: self.how.happened(primary, self.answer), every=0.02
        )

    def witnessed(self, seen: Figures) -> bool:
        return self.how.shows(seen)

    def measure(self, subject: Subject) -> dict[str, Json]:
        store, host, bound = subject.store, subject.host, self.how.bound_s
        start_s = _START_S if self.how.at_connect else 0.0
        left = max(0.1, self.t0_s + start_s + bound + 0.5 - time.monotonic())
        row = host.poll("a stored tick of the secondary", left, lambda: store.first_of("secondary"), every=0.02)
        seen_s = time.monotonic()
        entries = subject.unit.journal(self.cursor)
        fault_s = min([entry.mono_s for entry in _connecting(entries)], default=self.t0_s)
        fault_s = fault_s if self.how.at_connect else self.t0_s
        fault_ms = round((time.time() - time.monotonic() + fault_s) * 1000)
        measured: dict[str, Json] = {"n": 1, "stored_s": None, "fault_ms": fault_ms}
        if row is None:
            return measured
        last = store.last_of("primary", int(row["id"]))
        # The row may be committed a moment before the counters' heartbeat closes its gaps: ask until both are there.
        run = subject.run_id()
        kind = self.how.gap_kind
        host.poll("its gap", 2, lambda: _of(store.gaps(run), kind), every=0.1)
        gaps = _of(store.gaps(run), kind)
        return {
            **measured, "stored_s": round(seen_s - fault_s, 3),
            "received_s": round((row["received_ms"] - fault_ms) / 1000, 3),
            "last_primary_ms": last["received_ms"] if last else None, "first_secondary_ms": row["received_ms"],
            "gaps": gaps,
            "rejected": sum(gap["count"] or 0 for gap in gaps), "gap_kind": kind,
            "garbage_sent": self.exchanges["primary"].stats()["garbage"] if kind == "rejected" else 0,
            "secondary_sent": self.exchanges["secondary"].stats()["sent"],
            "said": [fields for _, fields in engine_lines(entries, "source failed")][-1:],
        }  # fmt: skip

    def traced(self, measured: Figures, trace: Trace) -> Mapping[str, Json | Between]:
        stored = trace.waits("a stored tick of the secondary")[-1]
        least, most = self._began(trace)
        if not stored["data"]["came"]:
            return {"stored_s": None}
        now = stored["mono_ns"] / 1e9
        found: dict[str, Json | Between] = {
            "stored_s": Between(now - most, trace.after(stored)["mono_ns"] / 1e9 - least),
            "fault_ms": Between(trace.wall_ms(stored, least) - _SLACK_MS, trace.wall_ms(stored, most) + _SLACK_MS),
            "secondary_sent": trace.stats("secondary")["sent"],
        }  # fmt: skip
        if self.how.gap_kind == "rejected":
            found["garbage_sent"] = trace.stats("primary")["garbage"]
        return found

    def _began(self, trace: Trace) -> tuple[float, float]:
        """When the fault was met, on CLOCK_MONOTONIC: by the exchange, by the engine's journal, or by two events."""
        if self.how.at_connect:
            met = [entry.mono_s for entry in _connecting(trace.journal())]
            begun = min(met, default=int(trace.shown(-1)["ExecMainStartTimestampMonotonic"]) / 1e6)
            return begun, begun
        said = trace.notes("exchange said", "primary")
        if said:
            at = said[-1]["mono_ns"] / 1e9
            return at, at
        announced = trace.intent("kill -STOP ")
        return trace.intent("fault: ")["mono_ns"] / 1e9, announced["mono_ns"] / 1e9

    def judge(self, measured: Figures) -> Sequence[Check]:
        stored, bound = measured.maybe("stored_s"), self.how.bound_s
        checks = [
            Check("secondary stored (s)", stored, f"<= {bound:g}", stored is not None and stored <= bound, guard=True)
        ]
        if stored is None:
            return checks
        if self.how.gap_kind == "rejected":
            sent, rejected = measured.count("garbage_sent"), measured.count("rejected")
            checks.append(
                Check("rejected in gaps", rejected, f"{sent}, all garbage sent", rejected == sent >= PARSE_LIMIT)
            )
            return checks
        # The silence on the books has to span all from the last that was heard before the fault to the first after it.
        fault, heard = measured.count("fault_ms"), measured.maybe("last_primary_ms")
        begin, end = max(fault, heard or 0) + _SLACK_MS, measured.count("first_secondary_ms")
        gaps = [Figures(gap) for gap in measured.all("gaps")]
        spans = [(gap.count("from_ms"), gap.maybe("to_ms")) for gap in gaps]
        covered = any(start <= begin and (stop is None or stop >= end - _SLACK_MS) for start, stop in spans)
        if heard is None:  # it never spoke: the gap begins when it was first tried
            covered = any(start <= end and (stop is None or stop >= end - _SLACK_MS) for start, stop in spans)
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


def _closed(exchange: Exchange, _: dict[str, Json]) -> Json:
    closed = [one for one in exchange.stats(quiet=True)["connections"] if not one["open"]]
    return {"connection": closed[0]["id"], "closed_ms": closed[0]["closed_ms"]} if closed else None


def _refused(exchange: Exchange, _: dict[str, Json]) -> Json:
    return {"port": exchange.port, "probe": "connection refused"} if refuses(exchange.port) else None


def _answered_451(exchange: Exchange, _: dict[str, Json]) -> Json:
    by_status = exchange.stats(quiet=True)["rejected_by_status"]
    return {"answered": by_status} if by_status.get("451") else None


def _freeze(exchange: Exchange) -> dict[str, Json]:
    at = time.monotonic_ns()
    exchange.freeze()
    return {"mono_ns": at}


def _frozen(exchange: Exchange, _: dict[str, Json]) -> Json:
    state = process_state(exchange.pid)
    return {"pid": exchange.pid, "state": state} if state == "T" else None


def _spoiled(exchange: Exchange, _: dict[str, Json]) -> Json:
    sent = exchange.stats(quiet=True)["garbage"]
    return {"garbage": sent} if sent >= PARSE_LIMIT else None


def _saw_hello(exchange: Exchange, _: dict[str, Json]) -> Json:
    stats = exchange.stats(quiet=True)
    return {"tls_hellos": stats["tls_hellos"], "accepted": stats["accepted"]} if stats["tls_hellos"] else None


HOWS = (
    How("closes", "the primary closes the connection", lambda e: e.tell("close"), _closed,
        lambda seen: seen.count("connection") > 0 and seen.count("closed_ms") > 0),
    How("refuses", "the primary's port refuses", lambda e: e.tell("refuse"), _refused,
        lambda seen: seen.count("port") > 0 and seen.text("probe") == "connection refused", at_connect=True),
    How("answers 451", "the primary answers HTTP 451", lambda e: e.tell("http", status=451, times=-1), _answered_451,
        lambda seen: seen.below("answered").count("451") > 0, at_connect=True),
    How("goes silent", "SIGSTOP of the primary", _freeze, _frozen,
        lambda seen: seen.count("pid") > 1 and seen.text("state") == "T", bound_s=DEAD_AFTER_S + BOUND_S),
    How("sends garbage", f"the primary sends {PARSE_LIMIT} undecodable trade frames",
        lambda e: e.tell("garbage", n=PARSE_LIMIT, scope="open"), _spoiled,
        lambda seen: seen.count("garbage") >= PARSE_LIMIT, gap_kind="rejected"),
    How("bad certificate", "the primary presents a certificate nobody vouches for", lambda e: {}, _saw_hello,
        lambda seen: seen.count("tls_hellos") > 0,
        at_connect=True, tls=True),
)  # fmt: skip


def cases(deployed: Deployed) -> Sequence[Case]:
    return [Failover(deployed, how) for how in HOWS]


def mutant_cases(deployed: Deployed) -> Sequence[Case]:
    """One of each kind: a connection that ends, one that is never made, one that talks nonsense."""
    return [Failover(deployed, how) for how in HOWS if how.name in ("closes", "refuses", "sends garbage")]


def _one_source(copy: Copy) -> None:
    copy.pick_sources = lambda sources: sources[:1]


def headline(results: Sequence[Result]) -> str:
    found = []
    for result in results:
        stored = {check.name: check.measured for check in result.checks}.get("secondary stored (s)")
        found.append(f"{result.case} {stored} s")
    return ", ".join(found)


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
