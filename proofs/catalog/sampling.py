"""sampling: sample_every = k stores exactly trades k, 2k, 3k ... as they were sent, across a reconnect, and the
accounting agrees."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog._checks import Counters, equal, figures, imbalance, last_fields, numbers_sent
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
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Row
from proofs.host.unit import Entry
from proofs.verdict import Check, Json, Result

TRADES = 2003
RECONNECT_AFTER = 1007
RATE = 1500  # trades a second: a stream, not a burst; what admission drops in a burst is another proof's subject
EVERY = (1, 5, 10, 20)
_DRAWN_EVERY = [every for every in range(2, 61) if every not in EVERY]
_DRAWN_SIGNAL_EVERY = [every for every in range(2, 17) if every not in (5, SIGNAL_EVERY)]
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

    seed: of what was drawn; None where nothing was.
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
        self.fault = f"{TRADES} trades of recorded frames, the connection closed after {RECONNECT_AFTER}"
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
        feed = {"hold": True, "count": TRADES, "rate": RATE, "close_after": RECONNECT_AFTER, "close_times": 1}
        self.start(subject, feed, **engine, heartbeat_interval_secs=0.5, flush_interval_ms=200)
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
        return witness.sent == TRADES == sum(sent) and len(sent) >= 2 and sent[0] == RECONNECT_AFTER

    def traced_witness(self, witness: Feed, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(_feed(trace.stats("mock")))

    def measure(self, subject: Subject) -> Sampled:
        unit = subject.unit
        self.old = unit.state(quiet=False)
        self.await_counted(subject, TRADES)
        subject.host.do("systemctl", "stop", unit.name)
        entries, run = unit.journal(self.cursor), subject.recorded().runs()[-1]
        sent, rows = record_rows(subject, self.exchanges)
        return self._sampled(self.stats, entries, self.old.invocation, run, sent, rows, self.seed)

    def _sampled(
        self,
        stats: dict[str, Json],
        entries: Sequence[Entry],
        invocation: str,
        run: Row,
        trades: Sent,
        rows: Sequence[StoredRow],
        seed: int | None,
    ) -> Sampled:
        ids = ids_of(rows, run)
        sent, periods = _numbers(stats), self.periods(seed)
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
            seed=seed,
        )

    def traced(self, measured: Sampled, trace: Trace) -> Mapping[str, Json | Between]:
        seeds = trace.notes("seed")
        again = self._sampled(
            trace.stats("mock"),
            trace.journal(),
            trace.shown(-1)["InvocationID"],
            trace.store().runs()[-1],
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
        which = f"{every}, {2 * every}, ... {due * every}"
        ids = f"{measured.first_ids} ... {measured.last_id}"
        return (
            equal("trades stored", stored, due, guard=True),
            *row_checks(measured.rows, due),
            equal("signals stored", measured.rows.signals, due // periods.signal, guard=True),
            Check("which trades", ids, which, measured.ids_match, guard=True),
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


def _numbers(stats: dict[str, Json]) -> list[int]:
    """What the exchange sent: it numbers its trades from 1, and these numbers are their ids."""
    return [number for sent in numbers_sent(stats) for number in sent]


def headline(results: Sequence[Result]) -> str:
    counts = [
        f"1/{result.case.rpartition(' ')[2]}: {figures([result]).get('trades stored', '?')}" for result in results
    ]
    return f"stored of {TRADES}: " + ", ".join(counts)


PROOF = Proof(
    name="sampling",
    claim="sample_every = k stores exactly trades k, 2k, 3k ..., each as the exchange sent it, across a reconnect",
    bound=", ".join(f"1/{every}: {TRADES // every}" for every in EVERY)
    + f", 1/k for a drawn k; all of up to {TRADES} rows as sent; dropped 0; accounting balances",
    fault=f"{TRADES} trades, the connection closed after {RECONNECT_AFTER};"
    f" sample_every {', '.join(map(str, EVERY))}, and one drawn from a seed",
    seconds=18,
    cases=lambda deployed: [Sampling(deployed, every) for every in (*EVERY, None)],
    mutants=[patched("sampling/off-by-one", lambda deployed: [Sampling(deployed, 5)])],
    headline=headline,
)
