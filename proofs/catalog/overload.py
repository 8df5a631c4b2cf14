"""overload: while somebody else locks the database a burst is dropped at admission and counted, and the engine recovers
when the lock goes; held for longer the engine ends with 13, is restarted, and recovers by itself as well."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from proofs.catalog._checks import PARTS, at_most, equal, figures, imbalance, known, last_fields
from proofs.catalog._recovery import DEADLINE_S, Lasting, Recovery
from proofs.catalog._recovery import headline as recovery_headline
from proofs.catalog._rows import Rows, Sent, StoredRow, compare, ids_of, record_rows, row_checks, trace_rows
from proofs.catalog._steady import OnExchanges, await_ticks
from proofs.catalog.mutations import patched
from proofs.experiment.case import Deployed, Proof
from proofs.experiment.measurements import Count, Pid, Row, Seconds, decode, figures_of, text_like
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Store, torn_chains
from proofs.host.regular_file import as_owner_of
from proofs.host.shell import Host, process_state
from proofs.host.unit import Entry, engine_lines
from proofs.verdict import Check, Json, Result

RATE = 800  # trades a second
HELD = 2400  # trades sent into the short lock: the engine's channels hold less than half of them
NEWEST = 200  # of the last trades before the lock goes: the queue that drops its oldest holds 256
AFTER = 800  # trades sent after it
RECOVER_S = 3.0
_OVERLOAD_AFTER_S = 20.0  # overload_after_s of the short lock: it must not end in 13
_DRAIN_S = 7.0  # an engine that ends with 13 drains first, which a lock keeps from coming to its end
_UNLOCK = "end the lock"
_TICK = "a tick that came after the lock"
_LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


class Lock:
    """Another process that holds a scratch database locked; it ends with the one that started it."""

    def __init__(self, host: Host, path: str) -> None:
        host.recorder.intent(f"BEGIN EXCLUSIVE on {path}", scope=host.scope)
        argv, owner = [sys.executable, "-ISBc", _LOCKER, path], os.stat(os.path.dirname(path))
        # As the owner of the database's directory, who may have put a link there.
        user, group = (owner.st_uid, owner.st_gid) if os.geteuid() == 0 else (None, None)
        more: list[int] | None = None if user is None else []
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, user=user, group=group, extra_groups=more)
        assert self._process.stdout
        self.reply = self._process.stdout.readline().decode().strip()
        self.pid = self._process.pid
        host.note("locker", {"pid": self.pid, "said": self.reply})

    def release(self) -> None:
        self._process.communicate()  # the end of its input is what it waits for


def _refused(path: str) -> str:
    """How SQLite answers our own try to write: "database is locked" while somebody else holds it."""
    try:
        with (
            as_owner_of(Path(path).parent),
            closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection,
        ):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class LockHeld:
    """holder: its pid. another_try: SQLite's answer to our own. sent: trades, by the exchange, when it was taken."""

    holder: Pid
    sent: Count
    another_try: Annotated[str, text_like("that it is locked", ".*locked.*")] = field(metadata={"key": "another try"})


@dataclass(frozen=True, kw_only=True)
class AfterShortLock:
    """n: trades sent into the lock. newest: the highest trade stored, of those numbered from 1. holes: trades below it
    that are not stored. books: the run's row. newest_kept: of the last trades sent into the lock, those stored."""

    n: Count
    back_s: Seconds | None
    restarted: bool
    state: str
    stored: Count
    newest: Count
    dropped_in_gaps: Count
    books: Row
    holes: Count
    in_order: bool
    torn: list[Count]
    integrity: str
    rows: Rows
    newest_kept: Count


@dataclass(frozen=True, kw_only=True)
class AfterLongLock(Lasting):
    """gave_up_s: from the lock until the engine said that it stops."""

    gave_up_s: Seconds | None


class Locked(OnExchanges):
    """Both: an exchange that sends at a rate, the engine on it, and then the lock."""

    overload_after_s: float
    t0: float

    def __init__(self, deployed: Deployed) -> None:
        super().__init__(deployed)
        self.lock: Lock | None = None

    def steady(self, subject: Subject) -> None:
        limits = {"flush_interval_ms": 200, "overload_after_s": self.overload_after_s}
        self.start(subject, {"rate": RATE}, heartbeat_interval_secs=0.5, **limits)
        await_ticks(subject)
        self.cursor = subject.unit.cursor()
        self.old = subject.unit.state(quiet=False)

    def inject(self, subject: Subject) -> None:
        self.lock = Lock(subject.host, str(subject.store.path))
        self.t0 = time.monotonic()

    def witness(self, subject: Subject) -> LockHeld | None:
        """A process of ours holds the lock, and SQLite refuses another one of ours."""
        assert self.lock
        refused = _refused(str(subject.store.path))
        self.sent_at_lock = int(self.exchange.stats()["sent"])
        if self.lock.reply != "locked" or process_state(self.lock.pid) not in ("S", "R"):
            return None
        return LockHeld(self.lock.pid, self.sent_at_lock, refused)

    def traced_witness(self, witness: LockHeld, trace: Trace) -> Mapping[str, Json | Between]:
        return {"holder": trace.event("locker")["data"]["pid"], "sent": trace.stats("mock", 0)["sent"]}

    def lift(self, subject: Subject) -> None:
        if self.lock:
            self.lock.release()
            self.lock = None

    def release(self, subject: Subject) -> None:
        self.lift(subject)
        super().release(subject)


class Short(Locked):
    name = "short lock"
    fault = f"another process holds the database locked while {HELD} trades come at {RATE} a second"
    n_min = HELD
    overload_after_s = _OVERLOAD_AFTER_S

    def measure(self, subject: Subject) -> AfterShortLock:
        host, unit, store = subject.host, subject.unit, subject.store
        host.wait_for("the burst", 15, lambda: self.counted("sent") - self.sent_at_lock >= HELD, every=0.05)
        # A pause, so that until something is committed again nothing arrives that would push out more.
        self.exchange.tell("pause")
        host.poll("the engine to have all", 3, lambda: self._received(subject) >= self.counted("sent"), every=0.1)
        sent = self.exchange.stats()["sent"]
        last = store.last_tick()
        subject.announce(_UNLOCK)
        released, released_ms = time.monotonic(), time.time_ns() // 1_000_000
        self.lift(subject)
        host.poll("a commit", RECOVER_S, lambda: store.last_tick() > last, every=0.02)
        self.exchange.tell("resume")
        stored = host.poll(_TICK, RECOVER_S + 1, lambda: store.newest_ms() > released_ms, every=0.02)
        back_s = round(time.monotonic() - released, 3) if stored else None
        state = unit.state(quiet=False)
        host.poll("more trades", 5, lambda: self.counted("sent") >= sent + AFTER, every=0.05)
        host.do("systemctl", "stop", unit.name)
        trades, rows = record_rows(subject, self.exchanges)
        restarted = state.invocation != self.old.invocation
        sent_to = self.sent_at_lock, sent
        return _after_lock(sent_to, back_s, restarted, state.active, subject.recorded(), trades, rows)

    def _received(self, subject: Subject) -> int:
        """How many trades the engine has received by its last heartbeat."""
        return int(last_fields(subject.unit.journal(self.cursor, quiet=True), "HEARTBEAT").get("received", 0))

    def traced(self, measured: AfterShortLock, trace: Trace) -> Mapping[str, Json | Between]:
        old, state, tick = trace.state(0), trace.state(-1), trace.waits(_TICK)[-1]
        sent = trace.stats("mock", 0)["sent"], trace.stats("mock")["sent"]
        restarted, rows = state.invocation != old.invocation, trace_rows(trace, ["mock"])
        again: dict[str, Json | Between] = figures_of(
            _after_lock(sent, None, restarted, state.active, trace.store(), *rows)
        )
        if tick["data"]["came"]:
            again["back_s"] = Between.since(trace.around(trace.intent(_UNLOCK)), *trace.around(tick))
        return again

    def judge(self, measured: AfterShortLock) -> Sequence[Check]:
        run, missing = known(measured.books, "received", *PARTS), measured.holes
        code = decode(int | None, measured.books.get("exit_code"), "exit_code")
        dropped, admitted, stored = run["dropped"], run["admitted"], measured.stored
        return (
            equal("accounting out of balance by", imbalance(run), 0, guard=True),
            Check("dropped, counted", dropped, f"{missing}, the trades missing", dropped == missing > 0, guard=True),
            equal("dropped, in gaps", measured.dropped_in_gaps, missing),
            *row_checks(measured.rows),
            equal("missing between stored trades", measured.rows.missing(), missing, guard=True),
            equal(f"of the newest {NEWEST} in the lock, stored", measured.newest_kept, NEWEST, guard=True),
            equal("received", run["received"], measured.newest),
            Check("admitted", admitted, f"{stored}, all stored", admitted == stored),
            at_most("seconds to recover", measured.back_s, RECOVER_S),
            equal("restarted", measured.restarted, False),
            equal("exit code", code, 0),
            equal("each trade once, in order", measured.in_order, True),
            equal("chains that are not whole", measured.torn, []),
            equal("integrity_check", measured.integrity, "ok"),
        )


def _after_lock(
    sent: tuple[int, int],
    back_s: float | None,
    restarted: bool,
    state: str,
    store: Store,
    trades: Sent,
    rows: Sequence[StoredRow],
) -> AfterShortLock:
    """sent: trades, by the exchange, when the lock was taken and before it went."""
    run = store.runs()[-1]
    ids = [number for number in ids_of(rows, run) if number is not None]
    return AfterShortLock(
        n=sent[1] - sent[0],
        back_s=back_s,
        restarted=restarted,
        state=state,
        stored=len(ids),
        newest=max(ids, default=0),
        dropped_in_gaps=sum(gap["count"] for gap in store.gaps(int(run["id"])) if gap["kind"] == "dropped"),
        books=run,
        holes=max(ids, default=0) - len(ids),
        in_order=ids == sorted(set(ids)),
        torn=torn_chains(store),
        integrity=store.integrity(),
        rows=compare(trades, rows),
        newest_kept=_newest_kept(sent[1], rows),
    )


def _newest_kept(sent: int, rows: Sequence[StoredRow]) -> int:
    """How many of the last trades up to that number are stored."""
    return len(set(range(sent - NEWEST + 1, sent + 1)) & {row.exchange_id for row in rows})


class Long(Locked, Recovery):
    name = "long lock"
    fault = "another process holds the database locked for longer than overload_after_s, and into the next run"
    code = 13
    overload_after_s = DEADLINE_S
    late_s = _DRAIN_S + 3.0
    restarts = 1

    def began(self, trace: Trace) -> tuple[float, float]:
        return trace.around(trace.event("locker"))

    def measure(self, subject: Subject) -> AfterLongLock:
        return AfterLongLock(**self.run_fault(subject))

    def figures_during(self, subject: Subject, seconds: float) -> dict[str, Any]:
        """When it gave up, which is long before its end: the drain comes in between."""
        at_s = _gave_up(subject.unit.journal(self.cursor), self.old.invocation)
        return {"gave_up_s": round(at_s - self.t0, 3) if at_s else None}

    def traced(self, measured: Lasting, trace: Trace) -> Mapping[str, Json | Between]:
        at_s = _gave_up(trace.journal(), trace.state(0).invocation)
        gave_up_s = Between.since(self.began(trace), at_s) if at_s else None
        return {**super().traced(measured, trace), "gave_up_s": gave_up_s}

    def judge(self, measured: AfterLongLock) -> Sequence[Check]:
        checks = self.checks(measured)
        if measured.ends:
            gave_up, bound = measured.gave_up_s, self.deadline_s + 3
            in_time = gave_up is not None and self.deadline_s <= gave_up <= bound
            checks.append(Check("gave up after (s)", gave_up, f"{self.deadline_s:g} to {bound:g}", in_time))
        return checks


def _gave_up(entries: Sequence[Entry], invocation: str) -> float | None:
    """When that run said that it stops, on CLOCK_MONOTONIC."""
    lines = engine_lines(entries, "stopping", invocation)
    return lines[0][0].mono_s if lines else None


def headline(results: Sequence[Result]) -> str:
    short = figures(results[:1])
    dropped = f"{short.get('dropped, counted')} dropped and counted"
    tick = f"a tick {short.get('seconds to recover')} s after it"
    return f"short lock: {dropped}, {tick}; {recovery_headline(results[1:])}"


PROOF = Proof(
    name="overload",
    claim="a locked database costs counted drops at admission, then 13 and a restart, and never an operator",
    bound=f"accounting balances, dropped = missing, the oldest, rows as sent, a tick in {RECOVER_S:g} s;"
    " 13 after overload_after_s"
    f" ({DEADLINE_S:g} s) and a drain of {_DRAIN_S:g} s, a tick in deadline + RestartSec + 5 s",
    fault="another process holds BEGIN EXCLUSIVE: through a burst; for longer than overload_after_s",
    seconds=22,
    cases=lambda deployed: [Short(deployed), Long(deployed)],
    mutants=[patched("overload/uncounted", Short.alone), patched("overload/never-13", Long.alone)],
    notes=f"overload_after_s is {_OVERLOAD_AFTER_S:g} s, then {DEADLINE_S:g} s in the scratch config",
    headline=headline,
    host_word={"witness.another try": "how SQLite refused a try of the proof's own"},
)
