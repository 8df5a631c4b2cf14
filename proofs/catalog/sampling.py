"""sampling: sample_every = k stores exactly trades k, 2k, 3k ..., across a reconnect, and the accounting agrees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog._checks import Counters, equal, figures, imbalance, last_fields, numbers_sent
from proofs.catalog._steady import OnExchanges
from proofs.catalog.mutations import patched
from proofs.experiment.case import Deployed, Proof
from proofs.experiment.measurements import Count, encode
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace, Untraced
from proofs.host.unit import engine_lines
from proofs.verdict import Check, Json, Result

TRADES = 2003
RECONNECT_AFTER = 1007
RATE = 1500  # trades a second: a stream, not a burst; what admission drops in a burst is another proof's subject
EVERY = (1, 5, 10, 20)
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
    """n, sent: trades sent, by the exchange's total and by its connections. ids: the exchange's of stored trades."""

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


class Sampling(OnExchanges):
    n_min = TRADES

    def __init__(self, deployed: Deployed, every: int) -> None:
        super().__init__(deployed)
        self.every = every
        self.name = f"sample_every {every}"
        self.fault = f"{TRADES} trades of recorded frames, the connection closed after {RECONNECT_AFTER}"

    def steady(self, subject: Subject) -> None:
        """The engine is connected; the exchange holds its first trade back."""
        feed = {"hold": True, "count": TRADES, "rate": RATE, "close_after": RECONNECT_AFTER, "close_times": 1}
        self.start(subject, feed, sample_every=self.every, heartbeat_interval_secs=0.5, flush_interval_ms=200)
        subject.host.wait_for("the engine to subscribe", 15, lambda: self.counted("subscribed") == 1, every=0.05)

    def inject(self, subject: Subject) -> None:
        self.exchange.tell("resume")

    def witness(self, subject: Subject) -> Feed:
        """By the exchange's own count: all trades sent, over two connections, the first closed where it was to be."""
        subject.host.wait_for("the feed to end", _FEED_S, lambda: self.counted("complete"), every=0.1)
        self.stats = stats = self.exchange.stats()
        return Feed(stats["sent"], [one["sent"] for one in stats["connections"]], stats["repeats"], stats["lost"])

    def witnessed(self, witness: Feed) -> bool:
        sent = witness.by_connection
        return witness.sent == TRADES == sum(sent) and len(sent) >= 2 and sent[0] == RECONNECT_AFTER

    def measure(self, subject: Subject) -> Sampled:
        unit = subject.unit
        self.old = unit.state()
        heartbeat = self.await_counted(subject, TRADES)
        subject.host.do("systemctl", "stop", unit.name)
        final = last_fields(unit.journal(self.cursor), "FINAL METRICS", self.old.invocation)
        run = subject.store.runs()[-1]
        ids = subject.store.exchange_ids(int(run["id"]))
        sent = _numbers(self.stats)
        return Sampled(
            n=self.stats["sent"],
            sent=len(sent),
            stored=len(ids),
            ids_match=ids == sent[self.every - 1 :: self.every],
            first_ids=ids[:3],
            last_id=ids[-1] if ids else None,
            exit_code=run["exit_code"],
            final=Counters.of(final) if final else Nothing(),
            heartbeat=Counters.of(heartbeat),
            store=Counters.of(run),
        )

    def traced(self, measured: Sampled, trace: Trace) -> Mapping[str, Json | Between]:
        entries, stats = trace.journal(), trace.stats("mock")
        final = last_fields(entries, "FINAL METRICS")
        if measured.heartbeat not in [Counters.of(fields) for _, fields in engine_lines(entries, "HEARTBEAT")]:
            raise Untraced("no heartbeat says what was measured of one")
        sent = _numbers(stats)
        due = sent[self.every - 1 :: self.every]
        again: dict[str, Json | Between] = {
            "n": stats["sent"],
            "sent": len(sent),
            "final": encode(Counters.of(final) if final else Nothing()),
        }
        if final:
            again["stored"] = final.get("ticks_stored")
        if measured.ids_match:
            again |= {"stored": len(due), "first_ids": due[:3], "last_id": due[-1]}
        return again

    def judge(self, measured: Sampled) -> Sequence[Check]:
        due = TRADES // self.every
        stored, sent, store = measured.stored, measured.sent, measured.store.known()
        final, heartbeat = encode(measured.final) or encode(Counters.of({})), encode(measured.heartbeat)
        losses = [store[name] for name in ("dropped", "rejected", "duplicate")]
        which = f"{self.every}, {2 * self.every}, ... {due * self.every}"
        ids = f"{measured.first_ids} ... {measured.last_id}"
        return (
            equal("trades stored", stored, due, guard=True),
            Check("which trades", ids, which, measured.ids_match, guard=True),
            Check("received", store["received"], sent, store["received"] == sent == TRADES),
            equal("dropped, rejected, duplicate", losses, [0, 0, 0]),
            equal("ticks_stored by the counters", store["ticks_stored"], stored),
            Check("FINAL METRICS", final, "as in the store", final == store),
            Check("heartbeat after the feed", heartbeat, "as in the store", heartbeat == store),
            equal("accounting balances", imbalance(store) == 0, True),
            equal("exit code", measured.exit_code, 0),
        )


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
    claim="sample_every = k stores exactly trades k, 2k, 3k ... of what the exchange sent, across a reconnect",
    bound=", ".join(f"1/{every}: {TRADES // every}" for every in EVERY) + "; dropped 0; accounting balances",
    fault=f"{TRADES} trades, the connection closed after {RECONNECT_AFTER}; sample_every {', '.join(map(str, EVERY))}",
    seconds=15,
    cases=lambda deployed: [Sampling(deployed, every) for every in EVERY],
    mutants=[patched("sampling/off-by-one", lambda deployed: [Sampling(deployed, 5)])],
    headline=headline,
)
