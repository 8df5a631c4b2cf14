"""Reloads under load: no trade is lost, and each new sampling holds exactly from the trade that the engine logs; a
configuration that is refused changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from proofs.catalog._checks import Counters, at_least, at_most, equal, imbalance
from proofs.catalog._rows import Rows, Sent, StoredRow, compare, ids_of, record_rows, row_checks, trace_rows
from proofs.catalog._steady import OnExchanges
from proofs.experiment.measurements import Count, Seconds, figures_of
from proofs.experiment.subject import Subject, config
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Row
from proofs.host.unit import UNIT_RELOADED, Entry, engine_lines, starts
from proofs.verdict import Check, Json

RATE = 800  # trades a second
_MOST = 20_000  # trades, on a host that takes long for each reload
_STEP = 250  # trades between two reloads
_FIRST = 1  # sample_every at the start
# And by each reload. An engine that counts on is right by chance where a period divides what it has received: for all
# three once in 65,000 runs.
PERIODS = (37, 1, 41, 1, 43, 1)
_FLUSH_S = 0.5  # a commit each 0.1 s is due then
_ENGINE: dict[str, Json] = {"heartbeat_interval_secs": 0.5, "batch_rows": 10_000}
_BEFORE = {**_ENGINE, "sample_every": _FIRST, "flush_interval_ms": 2000}
_AFTER = {**_ENGINE, "flush_interval_ms": 100}
# The level is back with the last one that is taken; the one after it is to be refused.
_RELOADS = (
    *({**_AFTER, "log_level": "DEBUG", "sample_every": every} for every in PERIODS[:-1]),
    {**_AFTER, "log_level": "INFO", "sample_every": PERIODS[-1]},
    {**_AFTER, "log_level": "INFO", "sample_every": 0},
)


@dataclass(frozen=True)
class Asked:
    """reloads: that systemd was asked for. sent: trades that the exchange had sent at each."""

    reloads: Count
    sent: list[Count]


@dataclass(frozen=True, kw_only=True)
class Reloaded:
    """n: trades sent. done: reloads by systemd's word. starts: of the engine. took: of each that the engine logs, the
    trades received by then and its sample_every; refused: how many it refused. debug: lines of that level between the
    first and the last, and after the last; commit_s: the shortest time between two commits by those."""

    n: Count
    stored: Count
    due: Count
    difference: str
    done: Count
    starts: Count
    took: list[tuple[Count, Count]]
    refused: Count
    debug: Count
    debug_after: Count
    commit_s: Seconds | None
    exit_code: int | None
    store: Counters
    rows: Rows


class Reloads(OnExchanges):
    name = "reloads"
    fault = (
        f"under {RATE} trades a second: reloads to sample_every {', '.join(map(str, PERIODS))}, then to one that is"
        " refused"
    )
    n_min = _STEP * len(_RELOADS)

    def steady(self, subject: Subject) -> None:
        self.start(subject, {"rate": RATE, "count": _MOST}, **_BEFORE)
        self._await_sent(subject, _STEP)
        self.old = subject.unit.state(quiet=False)

    def inject(self, subject: Subject) -> None:
        self.sent: list[int] = []
        for number, engine in enumerate(_RELOADS, 1):
            self.sent.append(self.exchange.stats()["sent"])
            subject.put("config.toml", config(**engine, ingest_mode="MOCK_WS", ws_url=self.exchange.url()))
            subject.host.do("systemctl", "reload", subject.unit.name, check=False)
            subject.host.poll("its answer", 4, partial(self._answered, subject, number), every=0.15)
            self._await_sent(subject, self.sent[-1] + _STEP)
        self.exchange.tell("pause")

    def _await_sent(self, subject: Subject, trades: int) -> None:
        """Wait for so many trades; an engine that has ended gets none."""
        subject.host.poll("trades to be sent", 3, lambda: self.counted("sent") >= trades, every=0.02)

    def _answered(self, subject: Subject, reloads: int) -> bool:
        """Whether the engine has answered so many by now."""
        entries = subject.unit.journal(self.cursor, quiet=True)
        return len(_took(entries)) + _refused(entries) >= reloads

    def witness(self, subject: Subject) -> Asked:
        return Asked(len(self.sent), self.sent)

    def witnessed(self, witness: Asked) -> bool:
        return witness.reloads == len(witness.sent) == len(_RELOADS) and min(witness.sent) > 0

    def traced_witness(self, witness: Asked, trace: Trace) -> Mapping[str, Json | Between]:
        asked = len(trace.events("command", "systemctl", "reload"))
        return {"reloads": asked, "sent": [trace.stats("mock", number)["sent"] for number in range(asked)]}

    def measure(self, subject: Subject) -> Reloaded:
        subject.host.poll("nothing on its way", 3, lambda: not self.counted("in_flight"), every=0.05)
        stats = self.exchange.stats()
        self.await_counted(subject, stats["sent"])
        subject.host.do("systemctl", "stop", subject.unit.name)
        entries, run = subject.unit.journal(self.cursor), subject.recorded().runs()[0]
        return _reloaded(stats, entries, run, *record_rows(subject, self.exchanges))

    def traced(self, measured: Reloaded, trace: Trace) -> Mapping[str, Json | Between]:
        run = trace.store().runs()[0]
        return figures_of(_reloaded(trace.stats("mock"), trace.journal(), run, *trace_rows(trace, ["mock"])))

    def judge(self, measured: Reloaded) -> Sequence[Check]:
        store = measured.store.known()
        losses = [store[name] for name in ("dropped", "rejected", "duplicate")]
        return (
            equal("starts", measured.starts, 1, guard=True),
            equal("reloads that systemd carried out", measured.done, len(_RELOADS), guard=True),
            equal("sample_every by the log", [every for _, every in measured.took], list(PERIODS), guard=True),
            equal("refused by the log", measured.refused, 1, guard=True),
            Check("trades stored", measured.difference or measured.stored, measured.due, not measured.difference, True),
            *row_checks(measured.rows, self.n_min // max(PERIODS)),
            at_least("lines of level DEBUG while it is set", measured.debug, 2, guard=True),
            equal("lines of level DEBUG afterwards", measured.debug_after, 0, guard=True),
            at_most("shortest time between commits (s)", measured.commit_s, _FLUSH_S, guard=True),
            equal("received", store["received"], measured.n, guard=True),
            equal("dropped, rejected, duplicate", losses, [0, 0, 0]),
            equal("ticks_stored by the counters", store["ticks_stored"], measured.stored),
            equal("accounting balances", imbalance(store) == 0, True),
            equal("exit code", measured.exit_code, 0, guard=True),
        )


def sampled(sent: Sequence[int], took: Sequence[tuple[int, int]]) -> list[int]:
    """The trades that are due: of those after each reload the k-th, 2k-th and so on, counted from there."""
    spans = pairwise([(0, _FIRST), *took, (len(sent), 0)])
    return [number for (start, every), (end, _) in spans for number in sent[start:end][every - 1 :: every]]


def _reloaded(
    stats: Mapping[str, Json], entries: Sequence[Entry], run: Row, trades: Sent, rows: Sequence[StoredRow]
) -> Reloaded:
    took = _took(entries)
    stored = ids_of(rows, run)
    due = sampled([one.trade_id for one in trades["mock"]], took)
    wrong = [place for place, (one, other) in enumerate(zip(stored, due, strict=False), 1) if one != other]
    different = f"row {wrong[0]} is trade {stored[wrong[0] - 1]}, due {due[wrong[0] - 1]}" if wrong else ""
    lengths = f"{len(stored)} rows" if len(stored) != len(due) else ""
    lines = [entry.mono_s for entry, _ in engine_lines(entries, "reloaded")]
    debug = [entry.mono_s for entry, _ in engine_lines(entries, "batch flushed")]
    last = lines[len(PERIODS) - 1] if len(lines) >= len(PERIODS) else float("inf")
    during = [at for at in debug if lines and lines[0] < at < last]
    return Reloaded(
        n=stats["sent"],
        stored=len(stored),
        due=len(due),
        difference=different or lengths,
        done=sum(entry.message_id == UNIT_RELOADED for entry in entries),
        starts=len(starts(entries)),
        took=took,
        refused=_refused(entries),
        debug=len(during),
        debug_after=sum(at > last for at in debug),
        commit_s=min((round(later - one, 3) for one, later in pairwise(during)), default=None),
        exit_code=run["exit_code"],
        store=Counters.of(run),
        rows=compare(trades, rows),
    )


def _took(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """Of each reload that the engine says it took: trades received by then, sample_every."""
    return [(fields["received"], fields["sample_every"]) for _, fields in engine_lines(entries, "reloaded")]


def _refused(entries: Sequence[Entry]) -> int:
    return len(engine_lines(entries, "reload refused, the old configuration stays in force"))
