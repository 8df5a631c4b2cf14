"""sampling: sample_every = k stores exactly trades k, 2k, 3k ..., across a reconnect, and the books agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proofs.catalog import mutations
from proofs.experiment.case import Case, Deployed, Mutant, Proof
from proofs.experiment.exchange import Exchange
from proofs.experiment.measurements import Figures, count_of
from proofs.experiment.subject import Copy, Subject, config
from proofs.experiment.trace import Between, Trace, Untraced
from proofs.host.unit import engine_lines
from proofs.verdict import Check, Json, Result

TRADES = 2003
RECONNECT_AFTER = 1007
RATE = 1500  # trades a second: a stream, not a burst; what the door drops in a burst is another proof's subject
EVERY = (1, 5, 10, 20)
_FEED_S = 40.0
_BOOKS = ("received", "sampled_out", "rejected", "duplicate", "dropped", "waiting", "admitted", "ticks_stored")


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
        subject.put(
            "config.toml",
            config(ingest_mode="MOCK_WS", ws_url=exchange.url(), sample_every=self.every,
                   heartbeat_interval_secs=0.5, flush_interval_ms=200),
        )  # fmt: skip
        self.cursor = subject.unit.cursor()
        subject.restart()
        host.wait_for("the engine to subscribe", 15, lambda: exchange.stats(quiet=True)["subscribed"] == 1, every=0.05)

    def inject(self, subject: Subject) -> None:
        assert self.exchange
        self.exchange.tell("resume")

    def witness(self, subject: Subject) -> Json:
        """By the exchange's own count: all trades sent, over two connections, the first closed where it was to be."""
        exchange = self.exchange
        assert exchange
        subject.host.wait_for("the feed to end", _FEED_S, lambda: exchange.stats(quiet=True)["complete"], every=0.1)
        self.stats = stats = exchange.stats()
        sent = [one["sent"] for one in stats["connections"]]
        seen = {"sent": stats["sent"], "by_connection": sent, "repeats": stats["repeats"], "lost": stats["lost"]}
        return seen if self.witnessed(Figures(seen)) else None

    def witnessed(self, seen: Figures) -> bool:
        sent = seen.counts("by_connection")
        return seen.count("sent") == TRADES == sum(sent) and len(sent) >= 2 and sent[0] == RECONNECT_AFTER

    def measure(self, subject: Subject) -> dict[str, Json]:
        unit, host, invocation = subject.unit, subject.host, subject.unit.state().invocation

        def settled() -> dict[str, Json] | None:
            beats = engine_lines(unit.journal(self.cursor, quiet=True), "HEARTBEAT", invocation)
            last = beats[-1][1] if beats else {}
            done = last.get("received", 0) >= TRADES and last.get("admitted") == last.get("ticks_stored")
            return last if done else None

        # A heartbeat after the feed ended; should it never agree, the last one is what is judged.
        heartbeat = host.poll("a heartbeat that has seen it all", 6, settled, every=0.2)
        if heartbeat is None:
            beats = engine_lines(unit.journal(self.cursor), "HEARTBEAT", invocation)
            heartbeat = beats[-1][1] if beats else {}
        host.do("systemctl", "stop", unit.name)
        finals = engine_lines(unit.journal(self.cursor), "FINAL METRICS", invocation)
        run = subject.store.runs()[-1]
        ids = subject.store.exchange_ids(int(run["id"]))
        sent = _numbers(self.stats)
        return {
            "n": self.stats["sent"], "sent": len(sent), "stored": len(ids),
            "ids_match": ids == sent[self.every - 1 :: self.every],
            "first_ids": ids[:3], "last_id": ids[-1] if ids else None, "exit_code": run["exit_code"],
            "final": {name: finals[-1][1].get(name) for name in _BOOKS} if finals else {},
            "heartbeat": {name: heartbeat.get(name) for name in _BOOKS},
            "store": {name: run.get(name) for name in _BOOKS},
        }  # fmt: skip

    def traced(self, measured: Figures, trace: Trace) -> Mapping[str, Json | Between]:
        entries, stats = trace.journal(), trace.stats("mock")
        finals = [fields for _, fields in engine_lines(entries, "FINAL METRICS")]
        beats = [{name: told.get(name) for name in _BOOKS} for _, told in engine_lines(entries, "HEARTBEAT")]
        if measured.of("heartbeat") not in [{}, *beats]:
            raise Untraced("no heartbeat says what was measured of one")
        sent = _numbers(stats)
        due = sent[self.every - 1 :: self.every]
        found: dict[str, Json | Between] = {
            "n": stats["sent"], "sent": len(sent),
            "final": {name: finals[-1].get(name) for name in _BOOKS} if finals else {},
        }  # fmt: skip
        if finals:
            found["stored"] = finals[-1].get("ticks_stored")
        if measured.flag("ids_match"):
            found |= {"stored": len(due), "first_ids": due[:3], "last_id": due[-1]}
        return found

    def judge(self, measured: Figures) -> Sequence[Check]:
        due = TRADES // self.every
        final, heartbeat, store = (books(measured.below(name)) for name in ("final", "heartbeat", "store"))
        kept, sent, code = measured.count("stored"), measured.count("sent"), measured.status("exit_code")
        losses = [store[name] for name in ("dropped", "rejected", "duplicate")]
        received = count_of(store["received"], "received")
        balance = received == sum(count_of(store[name], name) for name in _BOOKS[1:-1])
        match = measured.flag("ids_match")
        which = f"{self.every}, {2 * self.every}, ... {due * self.every}"
        stored = f"{measured.all('first_ids')} ... {measured.of('last_id')}"
        booked = store["ticks_stored"]
        return (
            Check("trades stored", kept, due, kept == due, guard=True),
            Check("which trades", stored, which, match, guard=True),
            Check("received", received, sent, received == sent == TRADES),
            Check("dropped, rejected, duplicate", losses, [0, 0, 0], losses == [0, 0, 0]),
            Check("ticks_stored by the books", booked, kept, booked == kept),
            Check("FINAL METRICS", final, "as in the store", final == store),
            Check("heartbeat after the feed", heartbeat, "as in the store", heartbeat == store),
            Check("books balance", balance, True, balance),
            Check("exit code", code, 0, code == 0),
        )  # fmt: skip

    def release(self, subject: Subject) -> None:
        if self.exchange:
            self.exchange.end()


def _numbers(stats: dict[str, Json]) -> list[int]:
    """What the exchange sent, by its own word: it numbers its trades from 1, and these numbers are their ids."""
    ranges = [(one["first_number"], one["last_number"]) for one in stats["connections"] if one["sent"]]
    return [number for first, last in ranges for number in range(first, last + 1)]


def books(told: Figures) -> dict[str, Json]:
    """The counters as they were told; none that was told may be anything but a count."""
    found = {name: told.of(name) if list(told) else None for name in _BOOKS}
    return {name: None if value is None else count_of(value, name) for name, value in found.items()}


def cases(deployed: Deployed) -> Sequence[Case]:
    return [Sampling(deployed, every) for every in EVERY]


def _off_by_one(copy: Copy) -> None:
    mutations.apply(copy, "sampling/off-by-one")


def headline(results: Sequence[Result]) -> str:
    found = []
    for result in results:
        stored = {check.name: check.measured for check in result.checks}.get("trades stored", "?")
        found.append(f"1/{result.case.rpartition(' ')[2]}: {stored}")
    return f"stored of {TRADES}: " + ", ".join(found)


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
