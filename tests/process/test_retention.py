"""retention_days in a running engine: old rows are deleted while it works, and nothing else."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

import pytest

from tests.support.accounting import TERMS, check_chains, rows
from tests.support.process import Launcher, wait_until

SECOND = 1 / 86_400  # in days


@pytest.mark.holds("RETENTION")
def test_retention_deletes_old_rows_during_a_run(engine: Launcher) -> None:
    settings = {"tick_interval_ms": 1, "signal_every_n_ticks": 3, "sample_every": 2}
    assert engine.start("--seconds", "1", engine=settings).code() == 0  # an old run, which will be deleted completely
    process = engine.start(engine=settings)
    remaining = process.heartbeat(lambda f: f["ticks_stored"] > 300)
    assert remaining["rows_expired"] == 0
    assert rows(engine.db, "SELECT min(id) FROM ticks") == [(1,)]
    # A lock on the database delays the deletion and does no harm.
    with closing(sqlite3.connect(engine.db, isolation_level=None)) as con:
        con.execute("BEGIN IMMEDIATE")
        engine.write_config({"engine": {**settings, "retention_days": 0.3 * SECOND}})
        process.send(signal.SIGHUP)
        assert process.wait("reloaded")["changed"] == ["engine.retention_days"]
        process.heartbeat(lambda f: f["lock_waits"] > 0)
        con.execute("ROLLBACK")
    first = process.heartbeat(lambda f: f["rows_expired"] > 500)
    last = process.heartbeat(lambda f: f["rows_expired"] > first["rows_expired"] + 500)
    assert process.stop() == 0
    final = process.final()
    assert final["persist_errors"] == 0
    assert final["received"] == sum(final[term] for term in TERMS)
    assert final["admitted"] == final["ticks_stored"] > last["ticks_stored"] - 1
    with closing(sqlite3.connect(engine.db)) as con:
        assert check_chains(con) == []
        assert con.execute("PRAGMA foreign_key_check").fetchall() == []
        assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    # The youngest ticks are left, without a gap in their ids; the first run was deleted with its last tick.
    ((low, high, count),) = rows(engine.db, "SELECT min(id), max(id), count(*) FROM ticks")
    assert high - low + 1 == count
    assert rows(engine.db, "SELECT id, ticks_stored - ticks_expired FROM runs") == [(2, count)]
    assert rows(engine.db, "SELECT min(run_id) FROM gaps") == [(2,)]
    assert low > 300


@pytest.mark.holds("REPLAY")
def test_replay_keeps_its_rows_and_refuses_an_expired_run(engine: Launcher) -> None:
    settings = {"tick_interval_ms": 1, "retention_days": 0.2 * SECOND}
    assert engine.start("--seconds", "0.5", engine={"tick_interval_ms": 1}).code() == 0
    source = engine.folder / "source.db"
    engine.db.rename(source)
    replayed = {"ingest_mode": "REPLAY", "replay_from": {"database": str(source), "run": 1}}
    # Long after the run was recorded, as far as retention is concerned.
    process = engine.start(engine={**settings, **replayed})
    assert process.code() == 0
    assert process.final()["rows_expired"] == 0
    assert rows(engine.db, "SELECT max(id), count(*) FROM ticks") == rows(source, "SELECT max(id), max(id) FROM ticks")
    # A live run on that database deletes them, and then the run cannot be replayed any more.
    process = engine.start(engine=settings)
    cut = "SELECT id FROM runs WHERE id = 2 AND ticks_expired > 0"
    wait_until(lambda: rows(engine.db, cut) == [(2,)], "its own first ticks to go")
    assert process.stop() == 0
    engine.db.rename(source)
    refused = engine.start(engine={**replayed, "replay_from": {"database": str(source), "run": 2}})
    assert refused.code() == 12
    assert "were deleted by retention_days" in refused.last_error()["message"]
