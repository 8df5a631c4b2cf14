"""retention_days: whole chains that are older go, with the gaps of that time, and nothing else; with 0 nothing goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog._checks import equal
from proofs.catalog._refused import rewrite
from proofs.catalog._replay import replay_config
from proofs.catalog._steady import await_ticks
from proofs.experiment.case import Case
from proofs.experiment.measurements import Count, figures_of
from proofs.experiment.subject import Subject, config
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Store, torn_chains
from proofs.host.unit import Entry, exits
from proofs.verdict import Check, Json

_TICKS = 60
_MORE = 60  # ticks that the engine stores in the meantime: several looks for what is too old
_DAY_MS = 86_400_000
_DAYS = 1000
_ENGINE: dict[str, Json] = {"ingest_mode": "SYNTHETIC", "tick_interval_ms": 10, "signal_every_n_ticks": 2}
# By table, what says how old a row is.
_TIMES = {"ticks": "received_ms", "signals": "created_ms", "orders": "created_ms", "trades": "created_ms"}
_TIMES["gaps"] = "to_ms"
Ids = dict[str, list[Count]]


@dataclass(frozen=True)
class Aged:
    """Ticks that are older than a day, and others."""

    old: Count
    young: Count


@dataclass(frozen=True, kw_only=True)
class Expired:
    """By table: the rows that are older than a day (due), those gone with 0, those gone with 1. expired: by the run's
    own count; replayed: the status with which a replay of what is left of the run ends."""

    n: Count
    due: Ids
    gone_with_0: Ids
    gone: Ids
    expired: Count
    torn: list[Count]
    broken_references: Count
    integrity: str
    replayed: list[int]


class Retention(Case):
    name = "retention"
    fault = f"of {_TICKS} ticks and more a third is made two days old, a third 18 hours; retention_days 0, then 1"
    n_min = _TICKS

    def steady(self, subject: Subject) -> None:
        """A database with a run that is over, and whose ticks were young for all of it."""
        subject.fresh()
        subject.put("config.toml", self._config(_DAYS))
        subject.restart()
        await_ticks(subject, _TICKS)
        subject.host.do("systemctl", "stop", subject.unit.name)

    def _config(self, days: int) -> str:
        return config(**_ENGINE, flush_interval_ms=100, heartbeat_interval_secs=0.5, retention_days=days)

    def inject(self, subject: Subject) -> None:
        self.last = last = subject.recorded().last_tick()
        old, middle = last // 3, 2 * last // 3
        rewrite(subject, *_aging(1, old, 2 * _DAY_MS), *_aging(old + 1, middle, _DAY_MS * 3 // 4))
        self.before = _rows(subject.recorded())

    def witness(self, subject: Subject) -> Aged:
        return _aged(self.before)

    def witnessed(self, witness: Aged) -> bool:
        return min(witness.old, witness.young) > 0

    def traced_witness(self, witness: Aged, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(_aged(_rows(trace.store(0))))

    def measure(self, subject: Subject) -> Expired:
        unit, host = subject.unit, subject.host
        subject.put("config.toml", self._config(0))
        subject.restart()
        await_ticks(subject, self.last + _MORE)
        with_0 = _rows(subject.recorded())
        subject.put("config.toml", self._config(1))
        host.do("systemctl", "reload", unit.name)
        oldest = "SELECT min(id) AS id FROM ticks"
        host.poll("old ticks to go", 5, lambda: subject.store.rows(oldest)[0]["id"] > 1, every=0.05)
        await_ticks(subject, subject.store.last_tick() + _MORE)
        host.do("systemctl", "stop", unit.name)
        store = subject.recorded()
        after = _rows(store)
        cursor = unit.cursor()
        subject.put("config.toml", replay_config(1))
        subject.restart(check=False)
        host.poll("its end", 8, lambda: not unit.state().running, every=0.05)
        return _expired(self.before, with_0, after, store, unit.journal(cursor))

    def traced(self, measured: Expired, trace: Trace) -> Mapping[str, Json | Between]:
        before, with_0, after = (_rows(trace.store(number)) for number in range(3))
        return figures_of(_expired(before, with_0, after, trace.store(), trace.journal()))

    def judge(self, measured: Expired) -> Sequence[Check]:
        due, gone = measured.due, measured.gone
        return (
            equal("gone with 0", [name for name, ids in measured.gone_with_0.items() if ids], [], guard=True),
            Check("gone with 1", _ends(gone), _ends(due), gone == due, guard=True),
            equal("of each table some", sorted(name for name in due if due[name]), sorted(_TIMES)),
            equal("ticks_expired", measured.expired, len(due["ticks"]), guard=True),
            equal("chains that are not whole", measured.torn, [], guard=True),
            equal("broken references", measured.broken_references, 0),
            equal("integrity_check", measured.integrity, "ok"),
            equal("a replay of the rest ends with", measured.replayed, [12], guard=True),
        )


def _ends(ids: Ids) -> dict[str, str]:
    """What people read of them."""
    return {name: f"{len(each)}: {min(each)} to {max(each)}" for name, each in ids.items() if each}


def _aging(first: int, last: int, by_ms: int) -> list[str]:
    """Make these chains that much older, and add a gap of that time."""
    chains = [
        f"UPDATE {name} SET {time} = {time} - {by_ms} WHERE id BETWEEN {first} AND {last}"
        for name, time in _TIMES.items()
        if name != "gaps"
    ]
    moment = f"(SELECT received_ms FROM ticks WHERE id = {last})"
    columns = "run_id, kind, source, symbol, from_ms, to_ms, count"
    gap = f"INSERT INTO gaps ({columns}) VALUES (1, 'missed', 'synthetic', 'BTC/USD', {moment}, {moment}, 1)"
    return [*chains, gap, gap]  # the newest gap is never deleted


Rows = Mapping[str, Mapping[int, int]]  # by table: when a row is of, by its id


def _rows(store: Store) -> Rows:
    """Those of run 1 alone, which is over."""
    last = store.rows("SELECT ticks_stored AS last FROM runs WHERE id = 1")[0]["last"]
    most = dict.fromkeys(_TIMES, last) | {"gaps": 4}
    return {
        name: {
            row["id"]: row["ms"]
            for row in store.rows(f"SELECT id, {time} AS ms FROM {name} WHERE id <= ? ORDER BY id", (most[name],))
        }
        for name, time in _TIMES.items()
    }


def _due(rows: Rows) -> Ids:
    newest = max(rows["ticks"].values())
    return {name: [number for number, ms in each.items() if ms < newest - _DAY_MS] for name, each in rows.items()}


def _aged(rows: Rows) -> Aged:
    old = len(_due(rows)["ticks"])
    return Aged(old, len(rows["ticks"]) - old)


def _expired(before: Rows, with_0: Rows, after: Rows, store: Store, entries: Sequence[Entry]) -> Expired:
    gone = [{name: sorted(before[name].keys() - rows[name].keys()) for name in before} for rows in (with_0, after)]
    return Expired(
        n=len(before["ticks"]),
        due=_due(before),
        gone_with_0=gone[0],
        gone=gone[1],
        expired=store.runs()[0]["ticks_expired"],
        torn=torn_chains(store),
        broken_references=store.broken_references(),
        integrity=store.integrity(),
        replayed=[status for _, status in exits(entries)],
    )
