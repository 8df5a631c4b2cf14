"""stop: told to stop under load, the engine ends with 0 in time, has stored all it admitted, and says the same."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog._checks import Counters, at_most, equal, figures, imbalance, last_fields
from proofs.catalog._rows import Rows, Sent, StoredRow, compare, ids_of, record_rows, row_checks, trace_rows
from proofs.catalog._steady import OnExchanges, await_ticks
from proofs.catalog.mutations import patched, with_directives
from proofs.experiment.case import Proof
from proofs.experiment.measurements import Count, Invocation, Pid, Seconds, encode
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace, mono_s
from proofs.host.database import Store, torn_chains
from proofs.host.unit import Entry, State, exits
from proofs.verdict import Check, Json, Result

BOUND_S = 5.0
RATE = 1000  # trades a second
LEAST = 1200  # trades sent before the stop
_STOPPING = "Stopping "
_ENDED = ("Deactivated successfully.", "Failed with result ")


@dataclass(frozen=True)
class StopUnderLoad:
    """sent: trades, by the exchange, before systemctl stop and when systemd said that it stops the unit."""

    pid: Pid
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
    rows: Rows


class Stopped(OnExchanges):
    name = "SIGTERM under load"
    fault = f"systemctl stop while an exchange sends {RATE} trades a second"
    n_min = LEAST

    def steady(self, subject: Subject) -> None:
        # Much waits to be committed at any moment, so that a stop that does not drain is seen whenever it comes.
        self.start(subject, {"rate": RATE}, heartbeat_interval_secs=0.5, batch_rows=5000, flush_interval_ms=2000)
        subject.host.wait_for("the load", 20, lambda: self.counted("sent") >= LEAST, every=0.05)
        await_ticks(subject)

    def inject(self, subject: Subject) -> None:
        self.old = subject.unit.state(quiet=False)
        self.cursor = subject.unit.cursor()
        self.sent_before = int(self.exchange.stats()["sent"])
        self.t0 = time.monotonic()
        subject.host.do("systemctl", "stop", "--no-block", subject.unit.name)

    def witness(self, subject: Subject) -> StopUnderLoad:
        """systemd's word that it was told to stop that run, the exchange's that it was sending to it just then."""

        def stopping() -> bool:
            entries = subject.unit.journal(self.cursor, quiet=True)
            return any(entry.message.startswith(_STOPPING) for entry in entries)

        subject.host.wait_for("systemd to stop it", 5, stopping, every=0.05)
        self.sent_until = int(self.exchange.stats()["sent"])
        return StopUnderLoad(self.old.pid, self.old.invocation, (self.sent_before, self.sent_until))

    def traced_witness(self, witness: StopUnderLoad, trace: Trace) -> Mapping[str, Json | Between]:
        old, sent = trace.state(0), [trace.stats("mock", number)["sent"] for number in (0, -1)]
        return {"pid": old.pid, "invocation": old.invocation, "sent": sent}

    def witnessed(self, witness: StopUnderLoad) -> bool:
        before, after = witness.sent
        return after > before

    def measure(self, subject: Subject) -> AfterStop:
        unit, host, store = subject.unit, subject.host, subject.recorded()
        host.poll("its end", BOUND_S + 7, lambda: _end(unit.journal(self.cursor, quiet=True)), every=0.1)
        entries, after = unit.journal(self.cursor), unit.state(quiet=False)
        ended_s, _ = _end(entries) or (None, None)
        took_s = round(ended_s - self.t0, 3) if ended_s else None
        sent, rows = record_rows(subject, self.exchanges)
        return _after_stop(self.sent_until, took_s, entries, self.old.invocation, after, store, sent, rows)

    def traced(self, measured: AfterStop, trace: Trace) -> Mapping[str, Json | Between]:
        entries, took_s = trace.journal(), measured.took_s
        sent, old, after = trace.stats("mock")["sent"], trace.state(0), trace.state(-1)
        rows = trace_rows(trace, ["mock"])
        again = encode(_after_stop(sent, took_s, entries, old.invocation, after, trace.store(), *rows))
        began = mono_s(trace.intent("fault: ")), mono_s(trace.intent_of("systemctl", "stop"))
        end = _end(entries)
        return {**again, "took_s": Between.since(began, end[0]) if end else None}

    def judge(self, measured: AfterStop) -> Sequence[Check]:
        took_s, final = measured.took_s, measured.final
        if took_s is None:
            return (at_most("ended after (s)", None, BOUND_S, guard=True),)
        store = measured.store.known()
        rows = sum(store[name] for name in ("ticks_stored", "signals_stored", "orders_stored", "trades_stored"))
        stored, dropped = measured.stored, measured.lost.get("dropped", 0)
        metrics = dict(sorted(encode(final).items()))
        return (
            at_most("ended after (s)", took_s, BOUND_S, guard=True),
            equal("exit status", measured.status, 0, guard=True),
            equal("exit status by the store", measured.exit_code, 0, guard=True),
            Check("ticks stored", stored, f"{final.admitted}, all admitted", stored == final.admitted, guard=True),
            Check("FINAL METRICS", metrics, "as in the store", final == measured.store, guard=True),
            equal("persist_count", measured.persist_count, rows, guard=True),
            equal("waiting", final.waiting, 0, guard=True),
            equal("state", measured.active, "inactive", guard=True),
            *row_checks(measured.rows),
            equal("missing between stored trades", measured.rows.missing(), dropped, guard=True),
            equal("ticks by the counters", store["ticks_stored"], stored),
            equal("each trade once, in order", measured.once_and_in_order, True),
            equal("accounting balances", imbalance(store) == 0, True),
            equal("dropped, in gaps", sum(measured.lost.values()), store["dropped"]),
            equal("chains that are not whole", measured.torn, []),
            equal("integrity_check", measured.integrity, "ok"),
        )


def _after_stop(
    sent: int,
    took_s: float | None,
    entries: Sequence[Entry],
    invocation: str,
    after: State,
    store: Store,
    trades: Sent,
    rows: Sequence[StoredRow],
) -> AfterStop:
    _, status = _end(entries) or (None, None)
    final, run = last_fields(entries, "FINAL METRICS", invocation), store.runs()[-1]
    ids = [number for number in ids_of(rows, run) if number is not None]
    gaps = store.gaps(int(run["id"]))
    return AfterStop(
        n=sent,
        took_s=took_s,
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
        rows=compare(trades, rows),
    )


def _end(entries: Sequence[Entry]) -> tuple[float, int] | None:
    """When systemd was done with it, and with which status the process ended: one of 0 is no line of the journal."""
    at = [entry.mono_s for entry in entries if any(word in entry.message for word in _ENDED)]
    others = exits(entries)
    return (at[-1], others[-1][1] if others else 0) if at else None


def headline(results: Sequence[Result]) -> str:
    measured = figures(results)
    end = f"exit {measured.get('exit status')} after {measured.get('ended after (s)')} s"
    if all(result.verdict == "PASS" for result in results):
        return f"{end} with {measured.get('ticks stored')} ticks stored, all that were admitted"
    return end


PROOF = Proof(
    name="stop",
    claim="told to stop under load the engine ends with 0, has stored everything it admitted, and its counters say so",
    bound=f"exit 0 in {BOUND_S:g} s, ticks stored = admitted, rows as sent, FINAL METRICS as in the store",
    fault=Stopped.fault,
    seconds=10,
    cases=Stopped.alone,
    mutants=[patched("stop/no-drain", Stopped.alone), with_directives("sigkill", "KillSignal=SIGKILL", Stopped.alone)],
    headline=headline,
)
