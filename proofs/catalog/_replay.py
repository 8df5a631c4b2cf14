"""A replay of a recorded run stores the same ticks, signals, orders and trades, byte for byte."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog._checks import equal
from proofs.catalog._steady import OnExchanges
from proofs.experiment.measurements import Count, Positive, figures_of
from proofs.experiment.row_reads import RecordedStore
from proofs.experiment.subject import STATE_DIR, Subject, config
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Store
from proofs.verdict import Check, Json

TRADES = 1203  # one wrong in 1,000 is among them
_RATE = 3000  # a second; a busy host drops some of a flood
_SIGNAL_EVERY = 3
NAME = "replayed.db"
_TABLES = ("ticks", "signals", "orders", "trades")
_ENGINE: dict[str, Json] = {
    "signal_every_n_ticks": _SIGNAL_EVERY,
    "heartbeat_interval_secs": 0.5,
    "flush_interval_ms": 200,
}


@dataclass(frozen=True)
class Repeated:
    """By the database that was written: rows of `runs`, and the mode of their ticks."""

    runs: Positive
    ingest_mode: str


@dataclass(frozen=True, kw_only=True)
class SameRows:
    """Rows of both runs by table; difference: the first one, "" without one. exit_code: of the replay."""

    n: Count
    rows: dict[str, Count]
    replayed: dict[str, Count]
    difference: str
    exit_code: int | None


def replay_config(run: int) -> str:
    """A replay of that run into a database of its own, with the period of the signals that it had."""
    tables = [
        "[engine.replay_from]",
        f'database = "{STATE_DIR / "hybrid.db"}"',
        f"run = {run}",
        "[app]",
        f'db_path = "{STATE_DIR / NAME}"',
    ]
    return "\n".join([config(**_ENGINE, ingest_mode="REPLAY"), *tables, ""])


class Replay(OnExchanges):
    name = "replay"
    fault = f"REPLAY of a run of {TRADES} trades into another database"
    n_min = TRADES

    def steady(self, subject: Subject) -> None:
        """A run on an exchange is stored, and over."""
        self.start(subject, {"count": TRADES, "rate": _RATE}, **_ENGINE)
        subject.host.wait_for("the feed to end", 15, lambda: self.counted("complete"), every=0.05)
        self.old = subject.unit.state(quiet=False)
        self.await_counted(subject, TRADES)
        subject.host.do("systemctl", "stop", subject.unit.name)

    def inject(self, subject: Subject) -> None:
        subject.put("config.toml", replay_config(1))
        subject.restart(check=False)  # it may be over before systemd heard that it began

    def witness(self, subject: Subject) -> Repeated | None:
        subject.host.poll("the replay to end", 10, lambda: not subject.unit.state().running, every=0.05)
        self._copy = RecordedStore(subject.host, NAME, subject.state / NAME)
        return _repeated(self._copy) if self._copy.path.exists() else None

    def traced_witness(self, witness: Repeated, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(_repeated(trace.store(unit=NAME)))

    def witnessed(self, witness: Repeated) -> bool:
        return witness.ingest_mode == "REPLAY"

    def measure(self, subject: Subject) -> SameRows:
        return _same_rows(subject.recorded(), self._copy)

    def traced(self, measured: SameRows, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(_same_rows(trace.store(), trace.store(unit=NAME)))

    def judge(self, measured: SameRows) -> Sequence[Check]:
        signals = TRADES // _SIGNAL_EVERY
        due = dict(zip(_TABLES, (TRADES, signals, signals), strict=False))
        recorded = {name: measured.rows[name] for name in due}
        return (
            equal("rows of the run", recorded, due),
            equal("rows of the replay", measured.replayed, measured.rows, guard=True),
            Check("as in the run", measured.difference or "all", "all", not measured.difference, guard=True),
            equal("exit code of the replay", measured.exit_code, 0, guard=True),
        )


def _repeated(copy: Store) -> Repeated:
    runs = copy.runs()
    return Repeated(len(runs), runs[-1]["ingest_mode"])


def _same_rows(store: Store, copy: Store) -> SameRows:
    rows, replayed = _rows(store), _rows(copy)
    differences = [
        f"{name}: {one}, replayed {other}"
        for name in _TABLES
        for one, other in zip(rows[name], replayed[name], strict=False)
        if one != other
    ]
    return SameRows(
        n=len(rows["ticks"]),
        rows={name: len(each) for name, each in rows.items()},
        replayed={name: len(each) for name, each in replayed.items()},
        difference=next(iter(differences), ""),
        exit_code=copy.runs()[-1]["exit_code"],
    )


def _rows(store: Store) -> dict[str, list[str]]:
    """Each row as JSON; its run is not the same."""
    tables = {name: store.rows(f"SELECT * FROM {name} ORDER BY id") for name in _TABLES}
    return {name: [json.dumps({**row, "run_id": 0}) for row in rows] for name, rows in tables.items()}
