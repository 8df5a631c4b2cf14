"""sampling: sample_every = k stores exactly trades k, 2k, 3k ..., across a reconnect, and the accounting agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog import mutations
from proofs.catalog._accounting import Counters, imbalance
from proofs.experiment.case import Case, Deployed, Mutant, Proof
from proofs.experiment.exchange import Exchange
from proofs.experiment.measurements import Count, encode
from proofs.experiment.subject import Changes, Subject, config
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


class Sampling(Case):
    n_min = TRADES

    def __init__(self, deployed: Deployed, every: int) -> None:
        super().__init__(deployed)
        self.every = every
        self.name = f"sample_every {every}"
        self.fault = f"{TRADES} trades of recorded frames, the connection closed after {RECONNECT_AFTER}"
        self.exchange: Exchange | None = None

    def steady(self, subject: Subject) -> None:
        """The engine is connected; the exchange holds its first trade back."""
        host = subject.host
        self.exchange = exchange = Exchange(
            host, "mock", hold=True, count=TRADES, rate=RATE, close_after=RECONNECT_AFTER, close_times=1, first_id=1
        )
        subject.fresh()
        text = config(
            ingest_mode="MOCK_WS",
            ws_url=exchange.url(),
            sample_every=self.every,
            heartbeat_interval_secs=0.5,
            flush_interval_ms=200,
        )
        subject.put("config.toml", text)
        self.cursor = subject.unit.cursor()
        subject.restart()
        host.wait_for("the engine to subscribe", 15, lambda: exchange.stats(quiet=True)["subscribed"] == 1, every=0.05)

    def inject(self, subject: Subject) -> None:
        assert self.exchange
        self.exchange.tell("resume")

    def witness(self, subject: Subject) -> Feed | None:
        """By the exchange's own count: all trades sent, over two connections, the first closed where it was to be."""
        exchange = self.exchange
        assert exchange
        subject.host.wait_for("the feed to end", _FEED_S, lambda: exchange.stats(quiet=True)["complete"], every=0.1)
        self.stats = stats = exchange.stats()
        sent = [one["sent"] for one in stats["connections"]]
        feed = Feed(stats["sent"], sent, stats["repeats"], stats["lost"])
        return feed if self.witnessed(feed) else None

    def witnessed(self, witness: Feed) -> bool:
        sent = witness.by_connection
        return witness.sent == TRADES == sum(sent) and len(sent) >= 2 and sent[0] == RECONNECT_AFTER

    def measure(self, subject: Subject) -> Sampled:
        unit, host, invocation = subject.unit, subject.host, subject.unit.state().invocation

        def settled() -> dict[str, Json] | None:
            beats = engine_lines(unit.journal(self.cursor, quiet=True), "HEARTBEAT", invocation)
            last = beats[-1][1] if beats else {}
            complete = last.get("received", 0) >= TRADES and last.get("admitted") == last.get("ticks_stored")
            return last if complete else None

        # A heartbeat after the feed ended; should its counters never agree, the last one is what is judged.
        heartbeat = host.poll("a heartbeat that has seen it all", 6, settled, every=0.2)
        if heartbeat is None:
            beats = engine_lines(unit.journal(self.cursor), "HEARTBEAT", invocation)
            heartbeat = beats[-1][1] if beats else {}
        host.do("systemctl", "stop", unit.name)
        finals = engine_lines(unit.journal(self.cursor), "FINAL METRICS", invocation)
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
            final=Counters.of(finals[-1][1]) if finals else Nothing(),
            heartbeat=Counters.of(heartbeat),
            store=Counters.of(run),
        )

    def traced(self, measured: Sampled, trace: Trace) -> Mapping[str, Json | Between]:
        entries, stats = trace.journal(), trace.stats("mock")
        finals = [fields for _, fields in engine_lines(entries, "FINAL METRICS")]
        if measured.heartbeat not in [Counters.of(fields) for _, fields in engine_lines(entries, "HEARTBEAT")]:
            raise Untraced("no heartbeat says what was measured of one")
        sent = _numbers(stats)
        due = sent[self.every - 1 :: self.every]
        figures: dict[str, Json | Between] = {
            "n": stats["sent"],
            "sent": len(sent),
            "final": encode(Counters.of(finals[-1]) if finals else Nothing()),
        }
        if finals:
            figures["stored"] = finals[-1].get("ticks_stored")
        if measured.ids_match:
            figures |= {"stored": len(due), "first_ids": due[:3], "last_id": due[-1]}
        return figures

    def judge(self, measured: Sampled) -> Sequence[Check]:
        due = TRADES // self.every
        stored, sent, store = measured.stored, measured.sent, measured.store.known()
        final, heartbeat = encode(measured.final) or encode(Counters.of({})), encode(measured.heartbeat)
        losses = [store[name] for name in ("dropped", "rejected", "duplicate")]
        balance, match = imbalance(store) == 0, measured.ids_match
        which = f"{self.every}, {2 * self.every}, ... {due * self.every}"
        ids = f"{measured.first_ids} ... {measured.last_id}"
        return (
            Check("trades stored", stored, due, stored == due, guard=True),
            Check("which trades", ids, which, match, guard=True),
            Check("received", store["received"], sent, store["received"] == sent == TRADES),
            Check("dropped, rejected, duplicate", losses, [0, 0, 0], losses == [0, 0, 0]),
            Check("ticks_stored by the books", store["ticks_stored"], stored, store["ticks_stored"] == stored),
            Check("FINAL METRICS", final, "as in the store", final == store),
            Check("heartbeat after the feed", heartbeat, "as in the store", heartbeat == store),
            Check("books balance", balance, True, balance),
            Check("exit code", measured.exit_code, 0, measured.exit_code == 0),
        )

    def release(self, subject: Subject) -> None:
        if self.exchange:
            self.exchange.end()


def _numbers(stats: dict[str, Json]) -> list[int]:
    """What the exchange sent, by its own word: it numbers its trades from 1, and these numbers are their ids."""
    ranges = [(one["first_number"], one["last_number"]) for one in stats["connections"] if one["sent"]]
    return [number for first, last in ranges for number in range(first, last + 1)]


def cases(deployed: Deployed) -> Sequence[Case]:
    return [Sampling(deployed, every) for every in EVERY]


def _off_by_one(unit: Changes) -> None:
    mutations.apply(unit, "sampling/off-by-one")


def headline(results: Sequence[Result]) -> str:
    counts = []
    for result in results:
        stored = {check.name: check.measured for check in result.checks}.get("trades stored", "?")
        counts.append(f"1/{result.case.rpartition(' ')[2]}: {stored}")
    return f"stored of {TRADES}: " + ", ".join(counts)


PROOF = Proof(
    name="sampling",
    claim="sample_every = k stores exactly trades k, 2k, 3k ... of what the exchange sent, across a reconnect",
    bound=", ".join(f"1/{every}: {TRADES // every}" for every in EVERY) + "; dropped 0; books balance",
    fault=f"{TRADES} trades, the connection closed after {RECONNECT_AFTER}; sample_every {', '.join(map(str, EVERY))}",
    seconds=15,
    cases=cases,
    mutants=[
        Mutant(
            "off-by-one", "a sampler that starts counting at 0", _off_by_one, lambda deployed: [Sampling(deployed, 5)]
        )
    ],
    headline=headline,
)
