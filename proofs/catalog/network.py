"""network: with every source refusing the engine ends with 10, is restarted at a pace, and recovers with one source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from proofs.catalog._checks import at_least, equal
from proofs.catalog._recovery import DEADLINE_S, Lasting, Recovery, headline
from proofs.catalog._rows import LEAST, Rows, compare, record_rows, row_checks, trace_rows
from proofs.catalog._steady import OnExchanges
from proofs.catalog.mutations import patched, with_directives
from proofs.experiment.case import Proof
from proofs.experiment.exchange import refuses
from proofs.experiment.measurements import Count, Positive, Seconds, encode
from proofs.experiment.subject import Subject, config
from proofs.experiment.trace import Between, Trace, mono_s
from proofs.host.database import Store
from proofs.verdict import Check, Json

RATE = 50  # trades a second of each exchange
_FAST = 700  # once the engine works again: for enough rows to compare
_TRIES_A_S = 2.0  # to each source; three times what its pauses come to on average
SCRATCH = config(
    ingest_mode="REAL_WS", heartbeat_interval_secs=0.5, flush_interval_ms=100, network_deadline_s=DEADLINE_S
)


@dataclass(frozen=True, kw_only=True)
class Compared(Lasting):
    rows: Rows | None = None


class TwoSources(OnExchanges, Recovery):
    """Two exchanges, the engine on them, and whatever makes both of no use; command: of the primary, for that."""

    command: str

    def steady(self, subject: Subject) -> None:
        self.start_exchanges(subject, SCRATCH, rate=RATE)
        self.await_primary(subject)
        self.cursor = subject.unit.cursor()

    def began(self, trace: Trace) -> tuple[float, float]:
        answers = [note for note in trace.notes("exchange said", "primary") if note["command"] == self.command]
        return mono_s(answers[0]), mono_s(answers[0])

    def lift(self, subject: Subject) -> None:
        self.exchanges["secondary"].tell("behave")

    def compare_rows(self, subject: Subject) -> Rows:
        """What both exchanges sent, with what is stored of it, once there is enough of it; ends the engine."""
        for exchange in self.exchanges.values():
            exchange.tell("rate", rate=_FAST)

        def enough() -> bool:
            return subject.store.last_tick() > LEAST or subject.unit.state().active == "failed"

        subject.host.poll("enough rows, or a unit that is down", 10, enough, every=0.05)
        subject.host.do("systemctl", "stop", subject.unit.name)
        return compare(*record_rows(subject, self.exchanges))

    def traced(self, measured: Lasting, trace: Trace) -> Mapping[str, Json | Between]:
        again = {**super().traced(measured, trace), **self.traced_during(measured.lasted_s, trace)}
        if "integrity" not in again:
            return again
        rows = encode(compare(*trace_rows(trace, ("primary", "secondary"))))
        return {**again, **self.figures_of_store(trace.store()), "rows": rows}

    def traced_during(self, seconds: float, trace: Trace) -> dict[str, Json]:
        """`figures_during` once more."""
        raise NotImplementedError

    def figures_of_store(self, store: Store) -> dict[str, Json]:
        """Figures of the store when the engine works again; also those of `figures_after`."""
        raise NotImplementedError

    def figures_after(self, subject: Subject) -> dict[str, Any]:
        return {**self.figures_of_store(subject.recorded()), "rows": self.compare_rows(subject)}

    def checks_of_rows(self, rows: Rows | None) -> list[Check]:
        if rows is None:
            return []
        return [*row_checks(rows), equal("missing between stored trades", rows.missing(), 0, guard=True)]

    def tries(self, per_s: float, most: float) -> Check:
        return Check("connections tried a second", per_s, f"0 < n <= {most:g}", 0 < per_s <= most)


@dataclass(frozen=True)
class Refusals:
    """probe: how a connection of our own to that port of the primary fared."""

    probe: Literal["connection refused"]
    port: Positive


@dataclass(frozen=True, kw_only=True)
class AfterRefusal(Compared):
    """tries: connections that the secondary refused.

    down_of: sources with a gap `down`. stored_10: runs stored as ended with 10. back_by: whose ticks are new.
    """

    tries: Count
    tries_a_s: Seconds
    down_of: list[str] | None = None
    stored_10: Count | None = None
    back_by: str | None = ""


@dataclass(frozen=True)
class Answers:
    """greeted: connections of the primary that had a frame and no trade. answered: 403 by the other."""

    greeted: Positive
    answered: Positive


@dataclass(frozen=True, kw_only=True)
class AfterAnswers(Compared):
    """greeted, answered: as in Answers, at the end of the fault. tries_a_s: connections to both.

    stored_10: runs stored as ended with 10. all_by: whose ticks are stored, of both.
    used: when the runs that met only answers, and ended with 10, had a frame of use (ms UTC).
    """

    greeted: Count
    answered: Count
    tries_a_s: Seconds
    stored_10: Count | None = None
    all_by: str | None = ""
    used: list[Count | None] | None = None


class Answered(TwoSources):
    """An answer is a sign of life, and none of use: both exchanges talk, and neither brings a trade."""

    name = "every source answers and refuses"
    fault = "the primary greets each connection and closes it with 1013, the secondary answers HTTP 403"
    code = 10
    command = "accept_close"

    def inject(self, subject: Subject) -> None:
        self.exchanges["secondary"].tell("http", status=403, times=-1)
        primary = self.exchanges["primary"]
        self.t0 = mono_s(primary.tell(self.command, code=1013, times=-1, noise=1))
        primary.tell("close")

    def witness(self, subject: Subject) -> Answers:
        """By the exchanges' own counts."""
        primary, secondary = self.exchanges.values()

        def bitten() -> bool:
            return all(_answers(primary.stats(quiet=True), secondary.stats(quiet=True)).values())

        subject.host.wait_for("both to be asked", 5, bitten, every=0.05)
        return Answers(**_answers(primary.stats(), secondary.stats()))

    def traced_witness(self, witness: Answers, trace: Trace) -> Mapping[str, Json | Between]:
        return _answers(trace.stats("primary", 0), trace.stats("secondary", 0))

    def lift(self, subject: Subject) -> None:
        self.exchanges["primary"].tell("behave")  # the other one is left alone for a quarter of an hour: it said 403

    def measure(self, subject: Subject) -> AfterAnswers:
        return AfterAnswers(**self.run_fault(subject))

    def figures_during(self, subject: Subject, seconds: float) -> dict[str, Any]:
        return _asked(self.exchanges["primary"].stats(), self.exchanges["secondary"].stats(), seconds)

    def traced_during(self, seconds: float, trace: Trace) -> dict[str, Json]:
        return _asked(trace.stats("primary"), trace.stats("secondary"), seconds)

    def figures_of_store(self, store: Store) -> dict[str, Json]:
        runs = store.runs()
        return {
            "stored_10": [run["exit_code"] for run in runs].count(10),
            "all_by": "secondary" if store.first_of("secondary") else "primary",
            "used": [run["last_frame_ms"] for run in runs[1:] if run["exit_code"] == 10],
        }

    def judge(self, measured: AfterAnswers) -> Sequence[Check]:
        checks = [*self.checks(measured), self.tries(measured.tries_a_s, _TRIES_A_S)]
        if measured.back_s is not None:
            used = measured.used or []
            checks += [
                equal("tries of the one that said 403", measured.answered, 1),
                at_least("runs stored as ended with 10", measured.stored_10, len(measured.ends)),
                equal("all ticks by", measured.all_by, "primary"),
                Check("signs of use", used, "none, in each run", bool(used) and not any(used), guard=True),
                *self.checks_of_rows(measured.rows),
            ]
        return checks


def _answers(primary: Mapping[str, Json], secondary: Mapping[str, Json]) -> dict[str, Json]:
    greeted = [one for one in primary["connections"] if one["noise"] and not one["sent"] and not one["open"]]
    return {"greeted": len(greeted), "answered": secondary["rejected_by_status"].get("403", 0)}


def _asked(primary: Mapping[str, Json], secondary: Mapping[str, Json], seconds: float) -> dict[str, Json]:
    counts = _answers(primary, secondary)
    return {**counts, "tries_a_s": round(sum(counts.values()) / seconds, 3)}


class Refused(TwoSources):
    name = "every source refuses"
    fault = "the primary's port refuses, the secondary answers HTTP 503"
    code = 10
    command = "refuse"

    def inject(self, subject: Subject) -> None:
        self.exchanges["secondary"].tell("http", status=503, times=-1)
        self.t0 = mono_s(self.exchanges["primary"].tell(self.command))

    def witness(self, subject: Subject) -> Refusals | None:
        """By a connection of our own to the one, by what the other counted."""
        primary, secondary = self.exchanges.values()

        def answered() -> int:
            return int(secondary.stats(quiet=True)["rejected_by_status"].get("503", 0))

        subject.host.wait_for("the secondary to be asked", 5, answered, every=0.05)
        return Refusals("connection refused", primary.port) if refuses(primary.port) else None

    def measure(self, subject: Subject) -> AfterRefusal:
        return AfterRefusal(**self.run_fault(subject))

    def figures_during(self, subject: Subject, seconds: float) -> dict[str, Any]:
        """What the secondary counted itself, and the span in which it did."""
        return _tries(self.exchanges["secondary"].stats(), seconds)

    def traced_during(self, seconds: float, trace: Trace) -> dict[str, Json]:
        return _tries(trace.stats("secondary"), seconds)

    def figures_of_store(self, store: Store) -> dict[str, Json]:
        runs = store.runs()
        down = [gap for run in runs for gap in store.gaps(int(run["id"])) if gap["kind"] == "down"]
        return {
            "down_of": sorted({gap["source"] for gap in down}),
            "stored_10": [run["exit_code"] for run in runs].count(10),
            "back_by": "secondary" if store.first_of("secondary") else None,
        }

    def traced_witness(self, witness: Refusals, trace: Trace) -> Mapping[str, Json | Between]:
        return {"port": trace.event("exchange", "primary")["data"]["port"]}

    def judge(self, measured: AfterRefusal) -> Sequence[Check]:
        checks = [*self.checks(measured), self.tries(measured.tries_a_s, _TRIES_A_S)]
        if measured.back_s is not None:
            checks += [
                equal("gaps `down` of", measured.down_of, ["primary", "secondary"]),
                at_least("runs stored as ended with 10", measured.stored_10, len(measured.ends)),
                equal("new ticks by", measured.back_by, "secondary"),
                *self.checks_of_rows(measured.rows),
            ]
        return checks


def _tries(stats: Mapping[str, Json], seconds: float) -> dict[str, Json]:
    tries = stats["rejected_by_status"].get("503", 0)
    return {"tries": tries, "tries_a_s": round(tries / seconds, 3)}


_START_LIMIT = ("[Unit]", "StartLimitIntervalSec=60", "StartLimitBurst=2", "[Service]")
PROOF = Proof(
    name="network",
    claim="with every source refusing the engine ends with 10, is restarted at a pace, and recovers by itself",
    bound=f"10 after network_deadline_s ({DEADLINE_S:g} s) + 3 s, at most {_TRIES_A_S:g} connections a second, never"
    " down for good, a tick in deadline + RestartSec + 5 s",
    fault=f"{Refused.fault}; {Answered.fault}",
    seconds=38,
    cases=lambda deployed: [Refused(deployed), Answered(deployed)],
    mutants=[
        with_directives("start-limit", "StartLimitIntervalSec=60, StartLimitBurst=2", Refused.alone, *_START_LIMIT),
        patched("network/life-is-use", Answered.alone),
    ],
    notes=f"network_deadline_s is {DEADLINE_S:g} s in the scratch config",
    headline=headline,
    host_word={"witness.probe": "a connection of the proof's own was refused"},
)
