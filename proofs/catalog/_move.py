"""A planned move: the exchange announces that it closes the connection, and for a while sends the same trades on the
next one, too, before the announced one is sent no more; the engine moves without a missing or a repeated trade."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proofs.catalog._checks import at_least, at_most, equal
from proofs.catalog._rows import LEAST, Rows, Sent, StoredRow, compare, record_rows, row_checks, trace_rows
from proofs.catalog._steady import OnExchanges, await_ticks
from proofs.experiment.measurements import Count, Positive, Row, Seconds, encode
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace, mono_s
from proofs.host.database import Store
from proofs.host.unit import Entry, engine_lines
from proofs.verdict import Check, Json

BOUND_S = 5.0  # a connection, the second for which the engine reads both, and a busy host
_RATE = 50
_FAST = 700  # once it has moved: for enough rows to compare
_SHARED = 10  # trades on both connections; in the rest of that second the new one alone has them
_MOVED = "its move to a new connection"


@dataclass(frozen=True)
class Announced:
    """How many connections were sent the announcement."""

    notices: Positive


@dataclass(frozen=True, kw_only=True)
class Moved:
    """moved_s: from the announcement to the log line of the move; None: it did not come. shared: trades that were sent
    on both connections. connections: how many the exchange accepted."""

    n: Count
    moved_s: Seconds | None
    shared: Count
    connections: Count
    gaps: list[Row]
    rows: Rows


class Move(OnExchanges):
    name = "announces its end"
    fault = "the exchange announces that it will close the connection, and sends no more trades on it soon after"

    def steady(self, subject: Subject) -> None:
        self.start(subject, {"rate": _RATE}, heartbeat_interval_secs=0.5, flush_interval_ms=100)
        await_ticks(subject)
        self.cursor = subject.unit.cursor()

    def inject(self, subject: Subject) -> None:
        self.t0_s = mono_s(self.exchange.tell("announce", shared=_SHARED))

    def witness(self, subject: Subject) -> Announced:
        return Announced(self.exchange.stats()["notices"])

    def traced_witness(self, witness: Announced, trace: Trace) -> Mapping[str, Json | Between]:
        return {"notices": trace.stats("mock", 0)["notices"]}

    def measure(self, subject: Subject) -> Moved:
        unit, host = subject.unit, subject.host
        host.poll(_MOVED, BOUND_S, lambda: _moves(unit.journal(self.cursor, quiet=True)), every=0.1)
        self.exchange.tell("rate", rate=_FAST)
        host.poll("enough rows", 10, lambda: subject.store.last_tick() > LEAST, every=0.05)
        host.do("systemctl", "stop", unit.name)
        moves = _moves(unit.journal(self.cursor))
        return Moved(
            n=1,
            moved_s=round(moves[0].mono_s - self.t0_s, 3) if moves else None,
            **_counted(self.exchange.stats(), subject.recorded()),
            rows=_compared(*record_rows(subject, self.exchanges)),
        )

    def traced(self, measured: Moved, trace: Trace) -> Mapping[str, Json | Between]:
        moves = _moves(trace.journal())
        began = next(mono_s(one) for one in trace.notes("exchange said", "mock") if one["command"] == "announce")
        return {
            "n": 1,
            "moved_s": round(moves[0].mono_s - began, 3) if moves else None,
            **_counted(trace.stats("mock"), trace.store()),
            "rows": encode(_compared(*trace_rows(trace, ("mock",)))),
        }

    def judge(self, measured: Moved) -> Sequence[Check]:
        return [
            at_most("moved to a new connection (s)", measured.moved_s, BOUND_S, guard=True),
            equal("connections", measured.connections, 2),
            at_least("trades on both", measured.shared, _SHARED),
            *row_checks(measured.rows),
            equal("missing between stored trades", measured.rows.missing(), 0, guard=True),
            equal("gaps", [gap["kind"] for gap in measured.gaps], [], guard=True),
        ]


def _moves(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry, _ in engine_lines(entries, "moved to a new connection")]


def _counted(stats: Mapping[str, Json], store: Store) -> dict[str, Any]:
    """The fields of a Moved that the exchange and the store have."""
    return {
        "shared": stats["repeats"],
        "connections": stats["accepted"],
        "gaps": store.gaps(int(store.runs()[-1]["id"])),
    }


def _compared(sent: Sent, rows: Sequence[StoredRow]) -> Rows:
    """Both connections count as one: nothing may be missing where the one ends and the other goes on."""
    return compare({name: [one._replace(connection=1) for one in trades] for name, trades in sent.items()}, rows)
