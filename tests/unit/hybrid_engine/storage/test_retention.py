"""retention_days: whole chains are deleted, oldest first, in slices, and never what is still needed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.accounting import AdmissionCounters, FeedState, Gap, StageCounters
from hybrid_engine.domain.events import Event
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import StorageError
from hybrid_engine.stages.admission import AdmissionQueue
from hybrid_engine.stages.channel import HEARTBEAT_S, Channel
from hybrid_engine.stages.persist import PersistStage
from hybrid_engine.storage import retention
from hybrid_engine.storage.retention import DAY_MS, SLICE
from hybrid_engine.storage.store import Store
from tests.support.accounting import check_chains, rows
from tests.support.pipeline import INFO, nothing
from tests.support.process import wait_until
from tests.support.rows import IN_FORCE, chains, in_force

NOW = now_ms()
OLD = NOW - 10 * DAY_MS
TABLES = ("ticks", "signals", "orders", "trades", "gaps", "runs")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "hybrid.db"


def fill(store: Store, first: int, count: int, at_ms: int, *gaps: Gap, exchange_ms: int | None = None) -> None:
    batch = chains(first, count, at_ms, at_ms if exchange_ms is None else exchange_ms)
    store.write(batch, AdmissionCounters(received=count, admitted=count), StageCounters(), FeedState(), gaps)


def lost(number: int, at_ms: int, to_ms: int | None = None) -> Gap:
    return Gap(number, "dropped", "s", "X", at_ms, at_ms if to_ms is None else to_ms, 1)


def run(store: Store, started_ms: int) -> int:
    return store.begin_run(INFO, started_ms)


def expire_all(store: Store, days: float = 7) -> int:
    """Delete slice after slice until nothing old is left."""
    total, more = 0, True
    while more:
        rows_deleted, more = store.delete_expired(days)
        assert rows_deleted <= 4 * SLICE + SLICE + SLICE
        total += rows_deleted
    return total


def counts(db: Path) -> dict[str, int]:
    return {name: rows(db, f"SELECT count(*) FROM {name}")[0][0] for name in TABLES}


def check(db: Path) -> None:
    """Check that the remaining rows are consistent, and that each run counts its deleted ticks."""
    with closing(sqlite3.connect(db)) as con:
        assert con.execute("PRAGMA foreign_key_check").fetchall() == []
        assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert check_chains(con) == []
        counted = "(SELECT count(*) FROM ticks WHERE run_id = runs.id)"
        assert con.execute(f"SELECT id FROM runs WHERE ticks_stored - ticks_expired <> {counted}").fetchall() == []


@pytest.mark.holds("RETENTION")
def test_expired_chains_deleted_whole(db: Path) -> None:
    store = Store(db)
    run(store, OLD)
    fill(store, 1, 30, OLD, lost(1, OLD))
    store.end_run(0, OLD + 1)
    run(store, OLD + 2)  # the pause is the second gap
    fill(store, 31, 10, OLD + 3, lost(3, OLD + 3))
    fill(store, 41, 5, NOW, lost(4, NOW))
    assert expire_all(store, days=11) == 0
    assert expire_all(store, days=7) == 4 * 40 + 3 + 1
    assert counts(db) == {"ticks": 5, "signals": 5, "orders": 5, "trades": 5, "gaps": 1, "runs": 1}
    assert rows(db, "SELECT id, ticks_stored, ticks_expired FROM runs") == [(2, 15, 10)]
    check(db)
    assert store.next_ids() == (46, 5)
    fill(store, 46, 5, NOW)
    store.end_run(0, NOW)
    store.close()
    check(db)


def test_newest_tick_and_gap_are_kept(db: Path) -> None:
    store = Store(db)
    run(store, OLD)
    fill(store, 1, 9, OLD, lost(1, OLD), lost(2, OLD))
    fill(store, 10, 1, OLD, exchange_ms=NOW)
    store.end_run(0, OLD)
    run(store, NOW)
    expire_all(store, days=1)
    assert store.next_ids() == (11, 4)  # the newest gap is the pause between the runs
    assert rows(db, "SELECT id FROM runs") == [(1,), (2,)]  # one still has a tick
    check(db)
    store.close()


def test_run_with_ticks_is_kept(db: Path) -> None:
    store = Store(db)
    run(store, OLD)
    fill(store, 1, 2, OLD)
    fill(store, 3, 1, OLD, exchange_ms=NOW)
    store.end_run(0, OLD)
    run(store, OLD + 1)
    assert store.delete_expired(7) == (4 * 2, False)
    assert rows(db, "SELECT id FROM runs") == [(1,), (2,)]
    check(db)
    fill(store, 4, 1, NOW, lost(2, NOW))
    assert store.delete_expired(7) == (4 + 1 + 1, False)  # with the pause that followed the run
    assert rows(db, "SELECT id FROM runs") == [(2,)]
    store.close()


def test_ticks_behind_young_tick_are_kept(db: Path) -> None:
    """After the clock was set back for a while, ticks behind a young one are kept."""
    store = Store(db)
    run(store, NOW)
    fill(store, 1, 3, OLD)
    fill(store, 4, 2, NOW)
    fill(store, 6, 3, OLD, exchange_ms=NOW)
    expire_all(store)
    assert rows(db, "SELECT id FROM ticks ORDER BY id") == [(4,), (5,), (6,), (7,), (8,)]
    store.close()


def test_leaping_clock_expires_nothing(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(db)
    run(store, NOW)
    fill(store, 1, 5, NOW)
    monkeypatch.setattr("hybrid_engine.storage.store.now_ms", lambda: NOW + 4000 * DAY_MS)
    fill(store, 6, 5, NOW + 4000 * DAY_MS, exchange_ms=NOW)
    assert expire_all(store) == 0
    fill(store, 11, 5, NOW + 4000 * DAY_MS)  # the exchange's clock agrees
    assert expire_all(store) == 4 * 5
    store.close()


def test_open_gap_is_kept(db: Path) -> None:
    store = Store(db)
    run(store, OLD)
    fill(store, 1, 3, OLD, lost(1, OLD), Gap(2, "down", "s", "X", OLD, None, None), lost(3, OLD), lost(4, OLD))
    fill(store, 4, 2, NOW)
    assert expire_all(store) == 4 * 3 + 2
    assert rows(db, "SELECT id FROM gaps") == [(2,), (4,)]  # the open one, and the newest
    store.close()


def test_run_with_gaps_is_kept(db: Path) -> None:
    store = Store(db)
    run(store, OLD)
    fill(store, 1, 3, OLD, lost(1, OLD), lost(2, OLD))
    store.end_run(0, OLD)
    run(store, OLD + 1)  # the pause is the third gap
    fill(store, 4, 2, NOW)
    assert expire_all(store) == 4 * 3 + 2
    assert rows(db, "SELECT id FROM runs") == [(1,), (2,)]
    fill(store, 6, 2, NOW, lost(4, NOW))
    assert expire_all(store) == 1 + 1
    assert rows(db, "SELECT id FROM runs") == [(2,)]
    store.close()


def test_crash_during_slice_rolls_back(db: Path) -> None:
    store = Store(db)
    run(store, OLD)
    fill(store, 1, 2 * SLICE + 10, OLD)
    fill(store, 2 * SLICE + 11, 1, NOW)
    assert store.delete_expired(7) == (4 * SLICE, True)
    before = counts(db)
    steps = 0

    def interrupt() -> bool:
        nonlocal steps
        steps += 1
        return steps == 3  # some hundred instructions into it

    store._con.set_progress_handler(interrupt, 2000)
    with pytest.raises(StorageError, match="interrupted"):
        store.delete_expired(7)
    store._con.set_progress_handler(None, 0)
    assert counts(db) == before
    check(db)
    store.close()  # without end_run, as after a kill
    store = Store(db)
    run(store, NOW)
    assert expire_all(store) == 4 * (SLICE + 10)  # the next start continues
    check(db)
    store.close()


def test_freed_pages_are_reused(db: Path) -> None:
    store = Store(db)
    run(store, OLD)
    sizes = []
    for day in range(12):
        fill(store, 1 + day * 1500, 1500, NOW - (11 - day) * DAY_MS)
        expire_all(store, days=2)
        store._con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sizes.append(db.stat().st_size)
    assert sizes[2] > 2.5 * sizes[0]  # it grows until the first rows are deleted
    assert sizes[-1] <= 1.02 * sizes[4]
    assert rows(db, "SELECT count(*) FROM ticks") == [(4_500,)]
    store.close()


def steps_of(con: sqlite3.Connection, action: Callable[[], object]) -> int:
    """The number of SQLite instructions of an action, which includes what a query plan does not show (foreign keys)."""
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    con.set_progress_handler(count, 1)
    action()
    con.set_progress_handler(None, 0)
    return steps


@pytest.mark.holds("GROWTH")
def test_cost_is_independent_of_table_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start, a commit, a search for old rows and a deletion cost the same on a database of any size."""
    monkeypatch.setattr(retention, "SLICE", 100)
    trades = []
    for young in (400, 20_000):
        db = tmp_path / f"{young}.db"
        store = Store(db)
        run(store, OLD)
        fill(store, 1, 100, OLD, lost(1, OLD))
        store.end_run(0, OLD)
        run(store, OLD + 1)
        fill(store, 101, young, NOW, *(lost(3 + n, NOW) for n in range(young)))
        store.close()  # a crashed run, which the next start closes
        store = Store(db)
        con = store._con
        steps = [
            steps_of(con, lambda s=store: run(s, NOW)),  # type: ignore[misc]
            steps_of(con, lambda s=store, n=young: fill(s, 101 + n, 10, NOW)),  # type: ignore[misc]
            steps_of(con, lambda s=store: s.delete_expired(7)),  # type: ignore[misc] # a full slice of ticks
            steps_of(con, lambda s=store: s.delete_expired(7)),  # type: ignore[misc] # the gaps and the run
            steps_of(con, lambda s=store: s.delete_expired(7)),  # type: ignore[misc] # nothing
            steps_of(con, lambda s=store: s.has_ticks_between(1, 50)),  # type: ignore[misc]
        ]
        assert rows(db, "SELECT min(id) FROM runs") == [(2,)]
        trades.append(steps)
        store.close()
    for small, large in zip(*trades, strict=True):
        assert small <= large + 20
        assert large <= small + 20, trades


@pytest.fixture
def aged(db: Path) -> Store:
    """A store with 2500 old ticks and a young one, at the beginning of a run."""
    store = Store(db)
    run(store, OLD)
    fill(store, 1, 2500, OLD)
    fill(store, 2501, 1, NOW)
    store.end_run(0, NOW)
    run(store, NOW)
    return store


def writer(store: Store, inbox: Channel, ingest_mode: str) -> PersistStage:
    settings = EngineSettings(retention_days=1.0, heartbeat_interval_secs=0.05, ingest_mode=ingest_mode)
    admission = AdmissionQueue(1, sample_every=1, admit_wait_ms=0)
    return PersistStage(store, admission, inbox, StageCounters(), FeedState(), settings)


def test_retention_runs_only_when_idle(aged: Store, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While events wait nothing is deleted; when idle, slice after slice."""
    inbox = Channel(10)
    inbox.put(chains(3000, 1, NOW, NOW).ticks, nothing)
    calls = []
    take_events = inbox.take

    def take(timeout_s: float = HEARTBEAT_S, min_events: int = 1) -> Sequence[Event]:
        # Another event waits at each call, until the hundredth.
        calls.append(len(rows(db, "SELECT id FROM ticks WHERE id <= 2500")))
        events = take_events(timeout_s, min_events)
        if len(calls) < 100:
            inbox.put(chains(3000 + len(calls), 1, NOW, NOW).ticks, nothing)
        return events

    monkeypatch.setattr(inbox, "take", take)
    persist = writer(aged, inbox, "SYNTHETIC")
    persist.start()
    wait_until(lambda: rows(db, "SELECT min(id) FROM ticks") == [(2501,)], "the old ones' end")
    # Persist checks once more after its last slice, perhaps after this thread has seen that slice.
    wait_until(lambda: calls[-1] == 0, "another look")
    assert calls[:100] == [2500] * 100
    assert {1500, 500} <= set(calls)
    wait_until(lambda: persist._counters.rows_expired == 4 * 2500, "the count")
    inbox.close()
    persist.join(5)
    aged.close()


def test_replay_deletes_nothing(aged: Store, db: Path) -> None:
    inbox = Channel(10)
    persist = writer(aged, inbox, "REPLAY")
    persist.start()
    for _ in range(3):
        (before,) = rows(db, "SELECT max(updated_ms) FROM runs")
        wait_until(lambda b=before: rows(db, "SELECT max(updated_ms) FROM runs") != [b], "the next heartbeat")  # type: ignore[misc]
    inbox.close()
    persist.join(5)
    aged.close()
    assert rows(db, "SELECT min(id) FROM ticks") == [(1,)]


@pytest.mark.holds("S1")
def test_pragmas_are_in_force_after_a_deletion(db: Path) -> None:
    store = Store(db)
    run(store, OLD)
    fill(store, 1, 3, OLD)
    store.end_run(0, OLD + 1)
    run(store, OLD + 2)
    fill(store, 4, 2, NOW, lost(2, NOW))
    assert expire_all(store) > 0
    assert rows(db, "SELECT id FROM runs") == [(2,)]
    assert in_force(store) == IN_FORCE
    store.close()
