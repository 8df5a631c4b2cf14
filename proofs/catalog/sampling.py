"""sampling: sample_every = k stores exactly trades k, 2k, 3k ... as they were sent, across a reconnect and reloads; the
accounting agrees, what the exchange left out is in `gaps`, and a replay repeats it all."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog._checks import Counters, at_most, equal, figures, imbalance, last_fields
from proofs.catalog._missed import LEFT_OUT, Hole, holes_of, missed_difference
from proofs.catalog._reload import Reloads
from proofs.catalog._replay import Replay
from proofs.catalog._rows import (
    SIGNAL_EVERY,
    Rows,
    Sent,
    StoredRow,
    compare,
    ids_of,
    record_rows,
    row_checks,
    trace_rows,
)
from proofs.catalog._steady import OnExchanges
from proofs.catalog.mutations import patched
from proofs.experiment.case import Deployed, Proof
from proofs.experiment.measurements import BadFigure, Count, decode, encode, figures_of
from proofs.experiment.measurements import Row as GapRow
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Row, Store
from proofs.host.unit import Entry
from proofs.verdict import Check, Json, Result

TRADES = 2003
RECONNECT_AFTER = 1007
RATE = 1500  # trades a second: a stream, not a burst; what admission drops in a burst is another proof's subject
EVERY = (1, 5, 10, 20)
_DRAWN_EVERY = [every for every in range(2, 61) if every not in EVERY]
_DRAWN_SIGNAL_EVERY = [every for every in range(2, 17) if every not in (5, SIGNAL_EVERY)]
HEARTBEAT_S = 0.5
LONGEST_MS = 1000  # a gap ends with the heartbeat; the feed takes 1,335 ms
_FEED_S = 40.0


@dataclass(frozen=True)
class Feed:
    """What the exchange counted. by_connection: trades sent over each."""

    sent: Count
    by_connection: list[Count]
    repeats: Count
    lost: Count


@dataclass(frozen=True)
class Nothing:
    """There were no FINAL METRICS."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """n, sent: trades sent, by the exchange's total and by its connections. ids: the exchange's of stored trades.

    holes: what the exchange left out of its numbers; gaps: of the run, but for those of sampling, of which the longest
    has longest_ms. seed: of what was drawn; None where nothing was.
    """

    n: Count
    sent: Count
    stored: Count
    ids_match: bool
    first_ids: list[Count | None]
    last_id: Count | None
    exit_code: int | None
    final: Counters | Nothing
    heartbeat: Counters
    store: Counters
    rows: Rows
    holes: list[Hole]
    gaps: list[GapRow]
    longest_ms: Count | None
    seed: Count | None = None


@dataclass(frozen=True)
class Periods:
    """sample_every, and the engine's signal_every_n_ticks."""

    sample: int
    signal: int


def draw(seed: int) -> Periods:
    """Periods that no case has: so an engine that is right for those alone is found out."""
    numbers = random.Random(seed)
    return Periods(numbers.choice(_DRAWN_EVERY), numbers.choice(_DRAWN_SIGNAL_EVERY))


class Sampling(OnExchanges):
    n_min = TRADES

    def __init__(self, deployed: Deployed, every: int | None) -> None:
        """every: sample_every; None draws it, and the period of the signals, when the case begins."""
        super().__init__(deployed)
        self.every = every
        self.name = f"sample_every {every or 'drawn'}"
        self.left_out = sum(LEFT_OUT.values()) if every == 1 else 0
        less = f", {self.left_out} numbers left out" if self.left_out else ""
        self.fault = f"{TRADES} trades of recorded frames, the connection closed after {RECONNECT_AFTER}{less}"
        self.seed: int | None = None

    def periods(self, seed: int | None) -> Periods:
        """Raises BadFigure: a seed where nothing is drawn, or none where something is."""
        if (seed is None) != (self.every is not None):
            raise BadFigure(f"the seed of {self.name} is {seed}")
        return Periods(self.every, SIGNAL_EVERY) if self.every is not None else draw(decode(Count, seed, "seed"))

    def steady(self, subject: Subject) -> None:
        """The engine is connected; the exchange holds its first trade back."""
        if self.every is None:
            self.seed = random.SystemRandom().randrange(10**6)
            subject.host.note("seed", {"seed": self.seed})
        periods = self.periods(self.seed)
        engine = {"sample_every": periods.sample, "signal_every_n_ticks": periods.signal}
        feed: dict[str, Json] = {"hold": True, "count": TRADES + self.left_out, "rate": RATE}
        feed |= {"close_after": RECONNECT_AFTER, "close_times": 1}
        if self.left_out:  # without frames between the trades, the last one that was heard is a trade
            lose = [{"command": "lose", "n": numbers, "after_sent": after} for after, numbers in LEFT_OUT.items()]
            feed |= {"do": lose, "noise": 0}
        self.start(subject, feed, **engine, heartbeat_interval_secs=HEARTBEAT_S, flush_interval_ms=200)
        subject.host.wait_for("the engine to subscribe", 15, lambda: self.counted("subscribed") == 1, every=0.05)

    def inject(self, subject: Subject) -> None:
        self.exchange.tell("resume")

    def witness(self, subject: Subject) -> Feed:
        """By the exchange's own count: all trades sent, over two connections, the first closed where it was to be."""
        subject.host.wait_for("the feed to end", _FEED_S, lambda: self.counted("complete"), every=0.1)
        self.stats = stats = self.exchange.stats()
        return _feed(stats)

    def witnessed(self, witness: Feed) -> bool:
        sent = witness.by_connection
        whole = witness.sent == TRADES == sum(sent) and witness.lost == self.left_out
        return whole and len(sent) >= 2 and sent[0] == RECONNECT_AFTER

    def traced_witness(self, witness: Feed, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(_feed(trace.stats("mock")))

    def measure(self, subject: Subject) -> Sampled:
        unit = subject.unit
        self.old = unit.state(quiet=False)
        self.await_counted(subject, TRADES)
        subject.host.do("systemctl", "stop", unit.name)
        entries, store = unit.journal(self.cursor), subject.recorded()
        sent, rows = record_rows(subject, self.exchanges)
        return self._sampled(self.stats, entries, self.old.invocation, store, sent, rows, self.seed)

    def _sampled(
        self,
        stats: dict[str, Json],
        entries: Sequence[Entry],
        invocation: str,
        store: Store,
        trades: Sent,
        rows: Sequence[StoredRow],
        seed: int | None,
    ) -> Sampled:
        run: Row = store.runs()[-1]
        ids = ids_of(rows, run)
        sent, periods = [one.trade_id for one in trades["mock"]], self.periods(seed)
        gaps = store.gaps(int(run["id"]))
        final = last_fields(entries, "FINAL METRICS", invocation)
        return Sampled(
            n=stats["sent"],
            sent=len(sent),
            stored=len(ids),
            ids_match=ids == sent[periods.sample - 1 :: periods.sample],
            first_ids=ids[:3],
            last_id=ids[-1] if ids else None,
            exit_code=run["exit_code"],
            final=Counters.of(final) if final else Nothing(),
            heartbeat=Counters.of(last_fields(entries, "HEARTBEAT", invocation)),
            store=Counters.of(run),
            rows=compare(trades, rows, periods.signal),
            holes=holes_of(sent, store),
            gaps=[gap for gap in gaps if gap["kind"] != "sampled_out"],
            longest_ms=max(
                (gap["to_ms"] - gap["from_ms"] for gap in gaps if gap["kind"] == "sampled_out"), default=None
            ),
            seed=seed,
        )

    def traced(self, measured: Sampled, trace: Trace) -> Mapping[str, Json | Between]:
        seeds = trace.notes("seed")
        again = self._sampled(
            trace.stats("mock"),
            trace.journal(),
            trace.shown(-1)["InvocationID"],
            trace.store(),
            *trace_rows(trace, ["mock"]),
            seeds[-1]["seed"] if seeds else None,
        )
        return figures_of(again)

    def judge(self, measured: Sampled) -> Sequence[Check]:
        periods = self.periods(measured.seed)
        every, due = periods.sample, TRADES // periods.sample
        stored, sent, store = measured.stored, measured.sent, measured.store.known()
        final, heartbeat = encode(measured.final) or encode(Counters.of({})), encode(measured.heartbeat)
        losses = [store[name] for name in ("dropped", "rejected", "duplicate")]
        which = f"{every}, {2 * every}, ... {due * every + self.left_out}"
        left_out = list(LEFT_OUT.values()) if self.left_out else []
        others = sorted({str(gap["kind"]) for gap in measured.gaps} - {"missed"})
        missed = missed_difference(measured.gaps, measured.holes)
        ids = f"{measured.first_ids} ... {measured.last_id}"
        return (
            equal("trades stored", stored, due, guard=True),
            *row_checks(measured.rows, due),
            equal("signals stored", measured.rows.signals, due // periods.signal, guard=True),
            Check("which trades", ids, which, measured.ids_match, guard=True),
            equal("numbers left out", [hole.count for hole in measured.holes], left_out),
            Check("gaps `missed`", missed or "all of these", "all of these", not missed, guard=True),
            equal("kinds of other gaps", others, ["down"], guard=True),
            *(
                [at_most("longest gap of sampling (ms)", measured.longest_ms, LONGEST_MS, guard=True)]
                if every > 1
                else []
            ),
            Check("received", store["received"], sent, store["received"] == sent == TRADES),
            equal("dropped, rejected, duplicate", losses, [0, 0, 0]),
            equal("ticks_stored by the counters", store["ticks_stored"], stored),
            Check("FINAL METRICS", final, "as in the store", final == store),
            Check("heartbeat after the feed", heartbeat, "as in the store", heartbeat == store),
            equal("accounting balances", imbalance(store) == 0, True),
            equal("exit code", measured.exit_code, 0),
        )


def _feed(stats: dict[str, Json]) -> Feed:
    return Feed(stats["sent"], [one["sent"] for one in stats["connections"]], stats["repeats"], stats["lost"])


def headline(results: Sequence[Result]) -> str:
    counts = [
        f"1/{result.case.rpartition(' ')[2]}: {figures([result]).get('trades stored', '?')}"
        for result in results
        if result.case.startswith("sample_every")
    ]
    return f"stored of {TRADES}: " + ", ".join(counts)


PROOF = Proof(
    name="sampling",
    claim="sample_every = k stores exactly trades k, 2k, 3k ..., each as the exchange sent it, across a reconnect and"
    " from a reload on; numbers left out are in gaps, a replay repeats the run",
    bound=", ".join(f"1/{every}: {TRADES // every}" for every in EVERY)
    + f", 1/k for a drawn k; all of up to {TRADES} rows as sent; dropped 0; accounting balances;"
    f" gaps of {', '.join(map(str, LEFT_OUT.values()))}; the same rows again",
    fault=f"{TRADES} trades, the connection closed after {RECONNECT_AFTER};"
    f" sample_every {', '.join(map(str, EVERY))}, and one drawn from a seed; reloads; a replay",
    seconds=21,
    cases=lambda deployed: [
        *(Sampling(deployed, every) for every in (*EVERY, None)),
        Reloads(deployed),
        Replay(deployed),
    ],
    on_copies=(*(f"sample_every {every}" for every in EVERY[1:]), Replay.name),
    mutants=[
        patched("sampling/off-by-one", lambda deployed: [Sampling(deployed, 5)]),
        patched("sampling/gaps-of-one", lambda deployed: [Sampling(deployed, 1)]),
        patched("sampling/counts-on", Reloads.alone),
        patched("sampling/replays-in-another-order", Replay.alone),
    ],
    headline=headline,
)
