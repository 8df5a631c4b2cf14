"""failover: whatever way the best source fails, the next one's trades are stored in 2 s, the gap is recorded."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from proofs.catalog._checks import at_most, equal, figures
from proofs.catalog._move import BOUND_S as MOVE_S
from proofs.catalog._move import Move
from proofs.catalog._rows import LEAST, Rows, Sent, StoredRow, compare, record_rows, row_checks, trace_rows
from proofs.catalog._steady import UP_S, OnExchanges
from proofs.catalog.mutations import patched
from proofs.experiment.case import Case, Deployed, Mutant, Proof
from proofs.experiment.exchange import Exchange, refuses
from proofs.experiment.measurements import (
    Count,
    Pid,
    Positive,
    Row,
    Seconds,
    count_from,
    decode,
    encode,
    figures_of,
    return_type,
)
from proofs.experiment.subject import Changes, Subject, config
from proofs.experiment.trace import Between, Trace, mono_s
from proofs.host.database import Store
from proofs.host.shell import process_state
from proofs.host.unit import Entry, engine_lines
from proofs.verdict import Check, Json, Result

BOUND_S = 2.0
DEAD_AFTER_S = 2.0
PARSE_LIMIT = 20
RATE = 50  # trades a second of each exchange
_FAST = 700  # once the figures are there: for enough rows to compare
_CERTIFICATE = Path(__file__).resolve().parent.parent / "mock_exchange" / "data" / "untrusted.pem"
STALE_S = 1.5  # stale_after_s of 0.5 s, and the second for which the engine compares the sources
_SCRATCH: dict[str, Json] = {
    "ingest_mode": "REAL_WS",
    "heartbeat_interval_secs": 0.5,
    "flush_interval_ms": 100,
    "dead_after_s": DEAD_AFTER_S,
    "parse_error_limit": PARSE_LIMIT,
}
_HOT: dict[str, Json] = {"standby": "hot", "stale_after_s": 0.5}
_MUTE_MS = 500  # of a source whose trades come every 20 ms
_START_S = 4.0  # for the process to start, where the fault is met at its first try to connect
_SLACK_MS = 100  # clocks are one and the same; this is for the way from the exchange to the engine


@dataclass(frozen=True)
class ConnectionClosed:
    connection: Positive
    closed_ms: Positive


@dataclass(frozen=True)
class PortRefuses:
    port: Positive
    probe: Literal["connection refused"]


@dataclass(frozen=True)
class Answered451:
    """answered: how many connections were answered, by HTTP status."""

    answered: dict[str, Count]


@dataclass(frozen=True)
class ExchangeStopped:
    pid: Pid
    state: Literal["T"]


@dataclass(frozen=True)
class GarbageSent:
    garbage: Annotated[int, count_from(PARSE_LIMIT)]


@dataclass(frozen=True)
class TlsHello:
    tls_hellos: Positive
    accepted: Count


@dataclass(frozen=True)
class TradesStopped:
    """An open connection that has not been sent a trade for so long."""

    connection: Positive
    silent_ms: Annotated[int, count_from(_MUTE_MS)]


Witness = ConnectionClosed | PortRefuses | Answered451 | ExchangeStopped | GarbageSent | TlsHello | TradesStopped
Answer = dict[str, Json]


Stats = Mapping[str, Json]  # what an exchange counted


def _closed(stats: Stats) -> ConnectionClosed | None:
    closed = [one for one in stats["connections"] if not one["open"]]
    return ConnectionClosed(closed[0]["id"], closed[0]["closed_ms"]) if closed else None


def _answered(stats: Stats) -> Answered451 | None:
    answered = stats["rejected_by_status"]
    return Answered451(answered) if answered.get("451") else None


def _garbage(stats: Stats) -> GarbageSent | None:
    return GarbageSent(stats["garbage"]) if stats["garbage"] >= PARSE_LIMIT else None


def _hello(stats: Stats) -> TlsHello | None:
    return TlsHello(stats["tls_hellos"], stats["accepted"]) if stats["tls_hellos"] else None


def _mute(stats: Stats) -> TradesStopped | None:
    silent = [(one["id"], stats["now_ms"] - one["last_sent_ms"]) for one in stats["connections"] if one["open"]]
    return next((TradesStopped(*one) for one in silent if one[1] >= _MUTE_MS), None)


def _refused(exchange: Exchange) -> PortRefuses | None:
    return PortRefuses(exchange.port, "connection refused") if refuses(exchange.port) else None


def _stopped(exchange: Exchange) -> ExchangeStopped | None:
    return ExchangeStopped(exchange.pid, "T") if process_state(exchange.pid) == "T" else None


@dataclass(frozen=True)
class How:
    """A way to fail. shown: the witness that its counts come to, or `look` where it does not count it; None while
    there is none. at_connect: the engine is started into it. engine: further settings of it."""

    name: str
    fault: str
    shown: Callable[[Stats], Witness | None] | None
    inject: Callable[[Exchange], Answer] = lambda exchange: {}
    at_connect: bool = False
    bound_s: float = BOUND_S
    tls: bool = False
    gap_kind: str = "down"
    engine: Mapping[str, Json] = field(default_factory=dict)
    look: Callable[[Exchange], Witness | None] = lambda exchange: None

    def witness(self, exchange: Exchange, quiet: bool = True) -> Witness | None:
        return self.shown(exchange.stats(quiet=quiet)) if self.shown else self.look(exchange)


@dataclass(frozen=True)
class NotTakenOver:
    n: Count
    stored_s: None
    fault_ms: Count


@dataclass(frozen=True, kw_only=True)
class TakenOver:
    """stored_s: from the fault to a stored tick of the secondary; received_s: to its receipt. gaps: of the primary.

    first_ms: when the secondary sent its first stored trade, and the one before that.
    """

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
    rows: Rows
    first_ms: tuple[Count, Count]


class Failover(OnExchanges):
    def __init__(self, deployed: Deployed, how: How) -> None:
        super().__init__(deployed)
        self.how = how
        self.name, self.fault = how.name, how.fault

    def steady(self, subject: Subject) -> None:
        """Both exchanges trade; unless the fault is one of connecting, the engine stores the primary's trades."""
        tls = {"tls_cert": str(_CERTIFICATE), "tls_key": str(_CERTIFICATE)} if self.how.tls else {}
        self.start_exchanges(subject, config(**{**_SCRATCH, **self.how.engine}), tls, rate=RATE, heartbeat=0.5)
        self.cursor = subject.unit.cursor()
        if not self.how.at_connect:
            self.await_primary(subject)
        if self.how.engine:  # a hot standby
            secondary = self.exchanges["secondary"]
            subject.host.wait_for(
                "the standby", UP_S, lambda: secondary.stats(quiet=True)["sent"] > RATE // 5, every=0.05
            )

    def inject(self, subject: Subject) -> None:
        answer = self.how.inject(self.exchanges["primary"])
        if self.how.at_connect:
            subject.restart()
            self.t0_s = subject.unit.state(quiet=False).started_s  # it meets the fault when it connects: see measure
        else:
            self.t0_s = mono_s(answer)

    def witness(self, subject: Subject) -> Any:
        primary = self.exchanges["primary"]
        subject.host.wait_for("the fault to bite", 5, lambda: self.how.witness(primary), every=0.02)
        return self.how.witness(primary, quiet=False)

    def witnessed(self, witness: Witness) -> bool:
        at_all = not isinstance(witness, Answered451) or witness.answered.get("451", 0) > 0
        return at_all and isinstance(witness, return_type(self.how.shown or self.how.look))

    def traced_witness(self, witness: Witness, trace: Trace) -> Mapping[str, Json | Between]:
        if self.how.shown:
            return figures_of(self.how.shown(trace.stats("primary", 0)))
        exchange = trace.event("exchange", "primary")["data"]
        name = "pid" if isinstance(witness, ExchangeStopped) else "port"
        return {name: exchange[name]}

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
        # The row may be committed a moment before the counters' heartbeat closes its gaps: ask until both are there.
        run, kind = int(store.runs()[-1]["id"]), self.how.gap_kind
        host.poll("its gap", 2, lambda: _of(store.gaps(run), kind), every=0.1)
        took_over = self._taken_over(subject.recorded(), entries, fault_ms, stored_s - fault_s)
        garbage_sent = self.exchanges["primary"].stats()["garbage"] if kind == "rejected" else 0
        secondary_sent = self.exchanges["secondary"].stats()["sent"]
        counted = {"garbage_sent": garbage_sent, "secondary_sent": secondary_sent}
        return TakenOver(**took_over, **counted, **_compared(*self._record_rows(subject)))

    def _taken_over(self, store: Store, entries: Sequence[Entry], fault_ms: int, stored_s: float) -> dict[str, Any]:
        """The fields of a TakenOver that come from the store and the journal."""
        row = store.first_of("secondary") or {}
        last = store.last_of("primary", int(row["id"]))
        gaps = _of(store.gaps(int(store.runs()[-1]["id"])), self.how.gap_kind)
        return {
            "n": 1,
            "stored_s": round(stored_s, 3),
            "fault_ms": fault_ms,
            "received_s": round((row["received_ms"] - fault_ms) / 1000, 3),
            "last_primary_ms": last["received_ms"] if last else None,
            "first_secondary_ms": row["received_ms"],
            "gaps": gaps,
            "rejected": sum(gap["count"] or 0 for gap in gaps),
            "gap_kind": self.how.gap_kind,
            "said": [fields for _, fields in engine_lines(entries, "source failed")][-1:],
        }

    def _record_rows(self, subject: Subject) -> tuple[Sent, Sequence[StoredRow]]:
        """What both sources sent, with what is stored of it, once there is enough of it."""
        frozen = self.how.inject is _freeze
        for name, exchange in self.exchanges.items():
            if not (frozen and name == "primary"):
                exchange.tell("rate", rate=_FAST)
        subject.host.poll("enough rows", 10, lambda: subject.store.last_tick() > LEAST, every=0.05)
        subject.host.do("systemctl", "stop", subject.unit.name)
        if frozen:
            self.exchanges["primary"].thaw()
        return record_rows(subject, self.exchanges)

    def traced(self, measured: NotTakenOver | TakenOver, trace: Trace) -> Mapping[str, Json | Between]:
        stored = trace.waits("a stored tick of the secondary")[-1]
        least, most = self._began(trace)
        fault_ms = Between(trace.wall_ms(stored, least) - _SLACK_MS, trace.wall_ms(stored, most) + _SLACK_MS)
        if not stored["data"]["came"]:
            return {"n": 1, "stored_s": None, "fault_ms": fault_ms}
        rejected = self.how.gap_kind == "rejected"
        return {
            **self._taken_over(trace.store(), trace.journal(), measured.fault_ms, 0.0),
            "stored_s": Between.since((least, most), *trace.around(stored)),
            "fault_ms": fault_ms,
            "garbage_sent": trace.stats("primary")["garbage"] if rejected else 0,
            "secondary_sent": trace.stats("secondary")["sent"],
            **{name: encode(one) for name, one in _compared(*trace_rows(trace, ("primary", "secondary"))).items()},
        }

    def _began(self, trace: Trace) -> tuple[float, float]:
        """When the fault was met, on CLOCK_MONOTONIC: by the exchange, by the engine's journal, or by two events."""
        if self.how.at_connect:
            met = [entry.mono_s for entry in _connecting(trace.journal())]
            begun = min(met, default=int(trace.shown(-1)["ExecMainStartTimestampMonotonic"]) / 1e6)
            return begun, begun
        if answers := [one for one in trace.notes("exchange said", "primary") if one["command"] != "rate"]:
            return mono_s(answers[-1]), mono_s(answers[-1])
        return mono_s(trace.intent("fault: ")), mono_s(trace.intent("kill -STOP "))

    def judge(self, measured: NotTakenOver | TakenOver) -> Sequence[Check]:
        in_time = at_most("secondary stored (s)", measured.stored_s, self.how.bound_s, guard=True)
        if isinstance(measured, NotTakenOver) or measured.stored_s is None:
            return [in_time]
        rows = [
            *row_checks(measured.rows),
            equal("missing between stored trades", measured.rows.missing(), 0, guard=True),
        ]
        if self.how.gap_kind == "rejected":
            sent, rejected = measured.garbage_sent, measured.rejected
            all_sent = rejected == sent >= PARSE_LIMIT
            return [in_time, *rows, Check("rejected in gaps", rejected, f"{sent}, all garbage sent", all_sent)]
        # The recorded silence has to span all from the last that was heard before the fault to the first after it.
        last_ms = measured.last_primary_ms
        begin, end = max(measured.fault_ms, last_ms or 0) + _SLACK_MS, measured.first_secondary_ms
        spans = [decode(tuple[Count, Count | None], [gap.get("from_ms"), gap.get("to_ms")]) for gap in measured.gaps]
        latest = end if last_ms is None else begin  # where it never spoke, the gap begins when it was first tried
        covered = any(start <= latest and (stop is None or stop >= end - _SLACK_MS) for start, stop in spans)
        gap = Check("gap", spans, f"from <= {begin}, to >= {end} (ms)", covered)
        return [in_time, *rows, gap, *self._nothing_between(measured)]

    def _nothing_between(self, measured: TakenOver) -> list[Check]:
        """Of a hot standby: its first stored trade is the first that it sent after the primary's last one."""
        if not self.how.engine or measured.last_primary_ms is None:
            return []
        before, first = (ms - measured.last_primary_ms for ms in measured.first_ms)
        due = f"<= {_SLACK_MS} and >= {-_SLACK_MS}"
        ok = before <= _SLACK_MS and first >= -_SLACK_MS
        return [
            Check("last trade not taken, first taken (ms after the primary's last)", [before, first], due, ok, True)
        ]


def _of(gaps: list[dict[str, Json]], kind: str) -> list[dict[str, Json]]:
    return [gap for gap in gaps if gap["kind"] == kind and gap["source"] == "primary"]


def _compared(sent: Sent, rows: Sequence[StoredRow]) -> dict[str, Any]:
    """The fields of a TakenOver that come from what was sent and what is stored of it."""
    trades = sent["secondary"]
    first = next((row.exchange_id for row in rows if row.source == "secondary"), None)
    place = next((place for place, one in enumerate(trades) if one.trade_id == first), 0)
    return {"rows": compare(sent, rows), "first_ms": (trades[max(0, place - 1)].time_ms, trades[place].time_ms)}


def _connecting(entries: Sequence[Entry]) -> list[Entry]:
    """When the engine turned to the primary: it says so first, so from then on the fault can be met."""
    return [entry for entry, fields in engine_lines(entries, "connecting") if fields.get("source") == "primary"]


def _freeze(exchange: Exchange) -> Answer:
    at = time.monotonic_ns()
    exchange.freeze()
    return {"mono_ns": at}


def _tell(command: str, **arguments: Json) -> Callable[[Exchange], Answer]:
    return lambda exchange: exchange.tell(command, **arguments)


_SENDS = f"the primary sends {PARSE_LIMIT} undecodable trade frames"
_PRESENTS = "the primary presents a certificate nobody vouches for"
HOWS = (
    How("closes", "the primary closes the connection", _closed, _tell("close")),
    How("refuses", "the primary's port refuses", None, _tell("refuse"), at_connect=True, look=_refused),
    How("answers 451", "the primary answers HTTP 451", _answered, _tell("http", status=451, times=-1), at_connect=True),
    How("goes silent", "SIGSTOP of the primary", None, _freeze, bound_s=DEAD_AFTER_S + BOUND_S, look=_stopped),
    How("sends garbage", _SENDS, _garbage, _tell("garbage", n=PARSE_LIMIT, scope="open"), gap_kind="rejected"),
    How("bad certificate", _PRESENTS, _hello, at_connect=True, tls=True),
    How(
        "stops trading",
        "the primary sends no more trades, all else goes on; the secondary is a hot standby",
        _mute,
        _tell("silent", what="trades"),
        bound_s=STALE_S + BOUND_S,
        gap_kind="stale",
        engine=_HOT,
    ),
)


def failing(*names: str) -> Callable[[Deployed], Sequence[Failover]]:
    """The cases of these ways to fail."""
    return lambda deployed: [Failover(deployed, how) for how in HOWS if how.name in names]


def _cases(deployed: Deployed) -> Sequence[Case]:
    return [*(Failover(deployed, how) for how in HOWS), Move(deployed)]


def _one_source(unit: Changes) -> None:
    unit.pick_sources = lambda sources: sources[:1]


def headline(results: Sequence[Result]) -> str:
    times = [(result.case, figures([result])) for result in results]
    moved = "moved to a new connection (s)"
    return ", ".join(
        f"{case} {measured.get('secondary stored (s)', measured.get(moved))} s" for case, measured in times
    )


PROOF = Proof(
    name="failover",
    claim="when the best source fails in any way, the next one's trades are stored in time and the gap is recorded",
    bound=f"{BOUND_S:g} s (silence: dead_after_s {DEAD_AFTER_S:g} + {BOUND_S:g} s, no trades: {STALE_S:g} +"
    f" {BOUND_S:g} s, of a hot standby every trade since);"
    f" rows as each source sent them, none missing, also over a move to a new connection in {MOVE_S:g} s",
    fault="the primary closes, refuses, answers 451, goes silent, sends garbage, has a bad certificate, stops trading,"
    " announces its end",
    seconds=40,
    cases=_cases,
    mutants=[
        # One of each kind: a connection that ends, one that is never made, one that talks nonsense.
        Mutant("one-source", "one source instead of two", failing("closes", "refuses", "sends garbage"), _one_source),
        patched("failover/keeps-nothing", failing("stops trading")),
        patched("failover/takes-both", Move.alone),
    ],
    headline=headline,
    host_word={
        "witness.probe": "a connection of the proof's own was refused",
        "witness.state": "what /proc showed of the stopped exchange",
    },
)
