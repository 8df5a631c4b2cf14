"""An exchange complains of a request in its own words, and then sends frames of which the engine understands nothing:
neither is a trade or garbage, and both are told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proofs.catalog._checks import equal
from proofs.catalog._rows import LEAST, Rows, compare, record_rows, row_checks, trace_rows
from proofs.catalog._steady import OnExchanges, await_ticks
from proofs.experiment.measurements import Count, Positive, encode
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Store
from proofs.host.unit import Entry, engine_lines
from proofs.verdict import Check, Json

ERROR = '{"error":{"code":2,"msg":"Invalid request: invalid stream"},"id":2}'  # as Binance says it
REASON = "2: Invalid request: invalid stream"
UNKNOWN = '{"news":"of another protocol"}'
DEAD_AFTER_S = 1.0
_SAID, _EVERY_S = 30, 0.1  # three times dead_after_s
_RATE = 50
_FAST = 700  # once trades come again: for enough rows to compare
_TOLD = "both to be told"
_COMPLAINT, _UNKNOWN = "the exchange complains", "nothing that the source sends is understood"


@dataclass(frozen=True)
class Said:
    """frames: without a trade, by the exchange's count."""

    frames: Positive


@dataclass(frozen=True, kw_only=True)
class Told:
    """complaints, not_understood: what the engine's warnings quote of the exchange."""

    n: Count
    complaints: list[str]
    not_understood: list[str]
    rejected: Count
    gaps: list[str]
    restarted: bool
    exit_code: int | None
    rows: Rows


class Complaint(OnExchanges):
    name = "complains, then babbles"
    fault = "the exchange answers with an error in its own words, and then sends frames of no known kind, and no trades"

    def steady(self, subject: Subject) -> None:
        settings = {"rate": _RATE, "noise": 0}
        self.start(subject, settings, heartbeat_interval_secs=0.5, flush_interval_ms=100, dead_after_s=DEAD_AFTER_S)
        await_ticks(subject)
        self.old = subject.unit.state(quiet=False)

    def inject(self, subject: Subject) -> None:
        self.exchange.tell("pause")
        self.exchange.tell("say", text=ERROR)
        self.exchange.tell("say", text=UNKNOWN, times=_SAID, every_s=_EVERY_S)

    def witness(self, subject: Subject) -> Said:
        subject.host.wait_for("frames of no known kind", 5, lambda: self.counted("noise") > 1, every=0.05)
        return Said(self.exchange.stats()["noise"])

    def traced_witness(self, witness: Said, trace: Trace) -> Mapping[str, Json | Between]:
        return {"frames": trace.stats("mock", 0)["noise"]}

    def measure(self, subject: Subject) -> Told:
        unit, host = subject.unit, subject.host

        def told() -> bool:
            lines = unit.journal(self.cursor, quiet=True)
            return all(engine_lines(lines, message, self.old.invocation) for message in (_COMPLAINT, _UNKNOWN))

        host.poll(_TOLD, _SAID * _EVERY_S + 2, told, every=0.2)
        self.exchange.tell("resume")
        self.exchange.tell("rate", rate=_FAST)
        host.poll("enough rows", 10, lambda: subject.store.last_tick() > LEAST, every=0.05)
        state = unit.state(quiet=False)
        host.do("systemctl", "stop", unit.name)
        entries = unit.journal(self.cursor)
        return Told(
            **_told(entries, self.old.invocation, subject.recorded()),
            restarted=state.invocation != self.old.invocation,
            rows=compare(*record_rows(subject, self.exchanges)),
        )

    def traced(self, measured: Told, trace: Trace) -> Mapping[str, Json | Between]:
        old = trace.state(0).invocation
        return {
            **_told(trace.journal(), old, trace.store()),
            "restarted": trace.state(-1).invocation != old,
            "rows": encode(compare(*trace_rows(trace, ("mock",)))),
        }

    def judge(self, measured: Told) -> Sequence[Check]:
        return [
            equal("complaints told", measured.complaints, [REASON], guard=True),
            equal("not understood", measured.not_understood, [UNKNOWN], guard=True),
            equal("rejected", measured.rejected, 0),
            equal("gaps", measured.gaps, []),
            *row_checks(measured.rows),
            equal("missing between stored trades", measured.rows.missing(), 0),
            equal("restarted", measured.restarted, False),
            equal("exit code", measured.exit_code, 0),
        ]


def _told(entries: Sequence[Entry], invocation: str, store: Store) -> dict[str, Any]:
    """The figures of a Told that the journal and the store have."""
    run = store.runs()[-1]
    return {
        "n": 1,
        "complaints": [str(fields["reason"]) for _, fields in engine_lines(entries, _COMPLAINT, invocation)],
        "not_understood": [str(fields["frame"]) for _, fields in engine_lines(entries, _UNKNOWN, invocation)],
        "rejected": run["rejected"],
        "gaps": [str(gap["kind"]) for gap in store.gaps(int(run["id"]))],
        "exit_code": run["exit_code"],
    }
