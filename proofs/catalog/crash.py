"""crash: killed at random moments under load, the store holds whole chains only, and what is lost is in `gaps`.

What was lost is what the exchange sent and the store does not have: everything in between was the engine's.
"""

import json
import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog._checks import at_least, at_most, equal, figures, imbalance, numbers_sent
from proofs.catalog._rows import LEAST, Rows, Sent, StoredRow, compare, ids_of, record_rows, row_checks, trace_rows
from proofs.catalog._steady import OnExchanges, await_ticks
from proofs.catalog.mutations import patched
from proofs.experiment.case import Deployed, Proof
from proofs.experiment.measurements import Count, Positive, encode
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Store, torn_chains
from proofs.host.unit import Entry, exits
from proofs.verdict import Check, Json, Result

KILLS = 30
MUTANT_KILLS = 10
RATE = 400  # trades a second; each becomes four rows
BATCH_ROWS = 100
LOST_BOUND = 256 + 64 + 512 + BATCH_ROWS  # what the three channels and one batch hold
_MOST_S = 0.3  # a run is killed so long after its first commit at most
_RESTART = "RestartSec=50ms"
_SLACK_MS = 50
_LATE_MS = 1000  # what was lost came after the last stored tick: its gap has to begin so soon after that
_GAPS = "SELECT * FROM gaps WHERE kind = 'crash' ORDER BY run_id, id"
_NEWEST = "SELECT run_id, received_ms FROM ticks WHERE id IN (SELECT max(id) FROM ticks GROUP BY run_id)"
_THERE = "SELECT id FROM ticks WHERE id IN (SELECT value FROM json_each(?))"


def _kill(subject: Subject, number: int, last: int, after_s: float) -> int:
    """Kill run `number` so long after it began to store, and wait for its end. Returns when, in ms UTC."""
    host = subject.host
    host.wait_for(f"run {number} to store ticks", 15, lambda: subject.store.last_tick() > last, every=0.02)
    due = time.monotonic() + after_s
    host.wait_for("its moment", _MOST_S + 1, lambda: time.monotonic() >= due, every=0.005)
    pid = subject.unit.state().pid
    host.send_signal(pid, signal.SIGKILL)
    at_ms = time.time_ns() // 1_000_000
    host.wait_for("the end of the process", 5, lambda: not os.path.exists(f"/proc/{pid}"), every=0.005)
    return at_ms


@dataclass(frozen=True)
class Kills:
    killed: Count
    sent: Positive
    seed: Count


@dataclass(frozen=True, kw_only=True)
class AfterKills:
    """What the store has after n kills, over all runs.

    lost: of each connection that a kill ended, the trades sent into it that are not stored. late_ms: of each gap, how
    long after the last tick before it it begins. booked: each run's ticks_stored counts its rows. torn: ids of up to
    20 chains that are not whole. kept: the last tick that was committed at each kill is still there. other_ends: how
    processes ended that nobody killed; negative for a signal.
    """

    n: Count
    seed: Count
    sent: Count
    stored: Count
    lost: list[Count]
    killed_ms: list[Count]
    crash_gaps: list[tuple[Count, Count]]
    late_ms: list[float]
    booked: bool
    balance: bool
    torn: list[Count]
    broken_references: Count
    integrity: str
    rows: Rows
    kept: bool
    other_ends: list[int]


class Killed(OnExchanges):
    name = "SIGKILL"

    def __init__(self, deployed: Deployed, kills: int) -> None:
        super().__init__(deployed)
        self.n_min = kills
        self.fault = f"SIGKILL of the main process, {kills} times, at random moments under {RATE} trades a second"

    def steady(self, subject: Subject) -> None:
        subject.directives.append(_RESTART)
        subject.install()
        self.start(subject, {"rate": RATE}, signal_every_n_ticks=1, batch_rows=BATCH_ROWS, flush_interval_ms=50)
        await_ticks(subject)

    def inject(self, subject: Subject) -> None:
        self.seed = random.SystemRandom().randrange(10**6)
        moments, self.killed_ms, self.committed = random.Random(self.seed), [], []
        subject.host.note("seed", {"seed": self.seed})
        last = 0
        for number in range(1, self.n_min + 1):
            self.killed_ms.append(_kill(subject, number, last, moments.uniform(0, _MOST_S)))
            last = subject.recorded().last_tick()
            self.committed.append(last)

    def witness(self, subject: Subject) -> Kills:
        """systemd's word that each of them was killed by SIGKILL, the exchange's that it was sending meanwhile."""
        subject.host.wait_for("the last restart", 15, lambda: len(subject.store.runs()) > self.n_min, every=0.05)
        subject.host.do("systemctl", "stop", subject.unit.name)
        self.stats, self.entries = self.exchange.stats(), subject.unit.journal(self.cursor)
        return Kills(_ends(self.entries).count(-signal.SIGKILL), self.stats["sent"], self.seed)

    def traced_witness(self, witness: Kills, trace: Trace) -> Mapping[str, Json | Between]:
        killed, seed = _ends(trace.journal()).count(-signal.SIGKILL), trace.notes("seed")[-1]["seed"]
        return {"killed": killed, "sent": trace.stats("mock")["sent"], "seed": seed}

    def witnessed(self, witness: Kills) -> bool:
        return witness.killed >= self.n_min

    def measure(self, subject: Subject) -> AfterKills:
        sent, rows = record_rows(subject, self.exchanges)
        store = subject.recorded()
        return self._after_kills(self.stats, self.entries, self.seed, self.killed_ms, self.committed, store, sent, rows)

    def _after_kills(
        self,
        stats: dict[str, Json],
        entries: Sequence[Entry],
        seed: int,
        killed_ms: list[int],
        committed: list[int],
        store: Store,
        trades: Sent,
        rows: Sequence[StoredRow],
    ) -> AfterKills:
        """committed: the last tick at each kill."""
        runs, gaps = store.runs(), store.rows(_GAPS)
        stored = {int(run["id"]): ids_of(rows, run) for run in runs}
        numbers = {number for ids in stored.values() for number in ids}
        newest = {row["run_id"]: row["received_ms"] for row in store.rows(_NEWEST)}
        there = {row["id"] for row in store.rows(_THERE, [json.dumps(committed)])}
        return AfterKills(
            n=len(killed_ms),
            seed=seed,
            sent=stats["sent"],
            stored=sum(map(len, stored.values())),
            lost=[sum(number not in numbers for number in sent) for sent in numbers_sent(stats)][: self.n_min],
            killed_ms=killed_ms,
            crash_gaps=[(gap["from_ms"], gap["to_ms"]) for gap in gaps],
            late_ms=[gap["from_ms"] - newest.get(gap["run_id"], 0) for gap in gaps],
            booked=all(run["ticks_stored"] == len(stored[int(run["id"])]) for run in runs),
            balance=all(imbalance(run) == 0 for run in runs),
            torn=torn_chains(store, each=True),
            broken_references=store.broken_references(),
            integrity=store.integrity(),
            rows=compare(trades, rows, 1),
            kept=there == set(committed),
            other_ends=[status for status in _ends(entries) if status != -signal.SIGKILL],
        )

    def traced(self, measured: AfterKills, trace: Trace) -> Mapping[str, Json | Between]:
        kills, seed = trace.intents("kill -KILL "), trace.notes("seed")[-1]["seed"]
        committed = [trace.store(number).last_tick() for number in range(len(kills))]
        rows = trace_rows(trace, ["mock"])
        again = encode(
            self._after_kills(
                trace.stats("mock"), trace.journal(), seed, measured.killed_ms, committed, trace.store(), *rows
            )
        )
        return {**again, "n": len(kills), "killed_ms": [trace.moment_ms(kill) for kill in kills]}

    def judge(self, measured: AfterKills) -> Sequence[Check]:
        lost, gaps, kills = measured.lost, measured.crash_gaps, measured.killed_ms
        covered = sum(any(start - _SLACK_MS <= at <= end + _SLACK_MS for start, end in gaps) for at in kills)
        stored, sent = measured.stored, measured.sent
        return (
            equal("chains that are not whole", measured.torn, [], guard=True),
            *row_checks(measured.rows, LEAST * self.n_min // KILLS),
            equal("missing between stored trades", measured.rows.missing(), 0, guard=True),
            equal("committed ticks kept", measured.kept, True, guard=True),
            equal("broken references", measured.broken_references, 0),
            equal("integrity_check", measured.integrity, "ok"),
            equal("kills", len(kills), self.n_min),
            equal("ends by anything else", measured.other_ends, []),
            equal("gaps `crash`", len(gaps), self.n_min, guard=True),
            equal("kills inside a gap", covered, self.n_min, guard=True),
            at_most("a gap after the last tick (ms)", max(measured.late_ms, default=None), _LATE_MS, guard=True),
            at_most("most lost in a kill", max(lost, default=None), LOST_BOUND),
            at_least("connections looked at", len(lost), self.n_min),
            Check("stored", stored, f"0 < n <= {sent}, all sent", 0 < stored <= sent),
            Check("counters of each run", measured.booked, "its rows", measured.booked, guard=True),
            equal("accounting balances", measured.balance, True),
        )


def _ends(entries: Sequence[Entry]) -> list[int]:
    """How each main process ended that systemd saw end, but for a clean exit."""
    return [status for _, status in exits(entries)]


def headline(results: Sequence[Result]) -> str:
    measured = figures(results)
    torn = len(measured.get("chains that are not whole") or [])
    seed = [result.witness["seed"] for result in results if result.witness]
    return (
        f"{measured.get('kills')} kills (seed {seed}), at most {measured.get('most lost in a kill')} trades lost in"
        f" one, {measured.get('gaps `crash`')} gaps `crash`, {torn} broken chains"
    )


def mutant_cases(deployed: Deployed) -> Sequence[Killed]:
    return [Killed(deployed, MUTANT_KILLS)]


PROOF = Proof(
    name="crash",
    claim="killed at any moment the store holds whole chains only; what was not stored yet is lost, and a gap says so",
    bound=f"{KILLS} kills: no broken chain, integrity_check ok, at most {LOST_BOUND} trades lost in each, all in gaps",
    fault=f"SIGKILL at random moments under {RATE} trades a second, {KILLS} times",
    seconds=30,
    cases=lambda deployed: [Killed(deployed, KILLS)],
    mutants=[
        # A commit between the rows of a chain is met by a kill for certain only if it lasts: so it does.
        patched("crash/half-chains", mutant_cases),
        patched("crash/no-gap", mutant_cases),
    ],
    notes=f"{_RESTART} for its many restarts",
    headline=headline,
)
