"""REPLAY gives the same signals, orders and trades as the earlier run, byte for byte."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.accounting import check_finished, rows
from tests.support.process import HASTY, EngineProcess, Launcher

CAPS = {"max_exposure_usd": 25.0, "max_symbol_exposure_usd": 25.0}

# Signals that depend on the ticks only and reach the risk caps on both sides.
STRATEGY = """
from hybrid_engine.domain.events import Signal

class Greedy:
    def __init__(self):
        self.seen = 0
        self.last = 0.0

    def on_tick(self, tick):
        self.seen += 1
        side = "BUY" if tick.price >= self.last else "SELL"
        self.last = tick.price
        if self.seen % 3 == 0:
            return Signal.of(tick, side, 0.1, "UP_OR_DOWN", 0.5)

def make(settings):
    return Greedy()
"""


@pytest.fixture
def original(engine: Launcher) -> Path:
    """A database with a run that had vetoes, sampling and a reload, and a second run."""
    (engine.folder / "greedy.py").write_text(STRATEGY)
    settings = {"strategy": "greedy:make", "sample_every": 2, "tick_interval_ms": 1, "price_step": 3.0}
    process = engine.start(engine=settings, risk_caps=CAPS)
    process.heartbeat(lambda f: f["risk_vetoes"] >= 20 and f["trade_count"] >= 20)
    assert process.stop() == 0
    assert engine.start("--seconds", "0.3", engine=settings, risk_caps=CAPS).code() == 0
    check_finished(engine.db, 1)
    check_finished(engine.db, 2)
    source = engine.folder / "original.db"
    shutil.move(engine.db, source)
    return source


def replay(
    engine: Launcher, source: Path, run: int, channels: dict[str, int] | None = None, **more: object
) -> EngineProcess:
    # The run's sample_every is configured here too, and must not be applied again.
    where = {"database": str(source), "run": run}
    settings = {"strategy": "greedy:make", "ingest_mode": "REPLAY", "sample_every": 2, "replay_from": where, **more}
    return engine.start(engine=settings, risk_caps=CAPS, channels=channels or {}, command=HASTY)


def table(db: Path, name: str, run: int) -> list[tuple[object, ...]]:
    columns = "t.*" if name != "ticks" else "id, source, symbol, price, size, exchange_id, exchange_ms, received_ms"
    join = "" if name == "ticks" else "JOIN ticks k ON k.id = t.id"
    return rows(db, f"SELECT {columns} FROM {name} t {join} WHERE run_id = ? ORDER BY 1", run)


@pytest.mark.holds("REPLAY")
@pytest.mark.parametrize("run", [1, 2])
def test_replay_repeats_a_run(engine: Launcher, original: Path, run: int) -> None:
    before = original.read_bytes()
    process = replay(engine, original, run, batch_rows=13)
    assert process.code() == 0  # it ends with the run that it replays
    replayed = check_finished(engine.db)
    for name in ("ticks", "signals", "orders", "trades"):
        expected = table(original, name, run)
        assert repr(table(engine.db, name, 1)) == repr(expected), name
        assert len(expected) == replayed[f"{name}_stored"]
    (vetoes,) = rows(original, "SELECT risk_vetoes FROM runs WHERE id = ?", run)[0]
    assert replayed["risk_vetoes"] == vetoes
    assert (replayed["sampled_out"], replayed["dropped"]) == (0, 0)
    assert original.read_bytes() == before
    # A second replay into the same database: its ids exist already.
    again = replay(engine, original, run)
    assert again.code() == 12
    assert "holds ticks with ids" in again.last_error()["message"]
    assert rows(engine.db, "SELECT exit_code FROM runs") == [(0,), (12,)]


CRAWL = """
import time
import greedy

class Crawl(greedy.Greedy):
    def on_tick(self, tick):
        time.sleep(0.03)
        return super().on_tick(tick)

def make(settings):
    return Crawl()
"""


def test_slow_replay_is_drained(engine: Launcher, original: Path) -> None:
    # The strategy is so slow that the run needs longer than a stop would give it.
    (engine.folder / "nap.py").write_text(CRAWL.replace("time.sleep(0.03)", "time.sleep(0 if self.seen else 0.8)"))
    process = replay(engine, original, 1, strategy="nap:make", channels={"tick": 100_000})
    assert process.code() == 0
    check_finished(engine.db)
    for name in ("ticks", "signals", "orders", "trades"):
        assert repr(table(engine.db, name, 1)) == repr(table(original, name, 1)), name
    assert process.messages("the drain took too long") == []


def test_stopped_replay_holds_a_whole_prefix(engine: Launcher, original: Path) -> None:
    (engine.folder / "crawl.py").write_text(CRAWL)
    process = replay(engine, original, 1, strategy="crawl:make", channels={"tick": 8, "signal": 4})
    process.heartbeat(lambda f: f["ticks_stored"] > 5)
    assert process.stop(timeout_s=12) == 0
    stored = check_finished(engine.db)["ticks_stored"]
    for name in ("ticks", "signals", "orders", "trades"):
        result = table(engine.db, name, 1)
        assert repr(result) == repr(table(original, name, 1)[: len(result)]), name
    assert stored > 5


def test_invalid_replay_exits_12(engine: Launcher, original: Path) -> None:
    no_run = replay(engine, original, 99)
    assert no_run.code() == 12
    assert "replay_from.run = 99" in no_run.last_error()["message"]
    missing = replay(engine, engine.folder / "missing.db", 1)
    assert missing.code() == 12
    assert "there is no such file" in missing.last_error()["message"]
    garbage = engine.folder / "garbage.db"
    garbage.write_bytes(b"no database at all" * 500)
    foreign = engine.folder / "foreign.db"
    with closing(sqlite3.connect(foreign)) as con:
        con.execute("CREATE TABLE runs (id INTEGER, what TEXT)")
    for source in (garbage, foreign):
        process = replay(engine, source, 1)
        assert process.code() == 12, source
        assert f"replay_from.database = {source}" in process.last_error()["message"]
        assert "traceback" not in process.last_error()


def test_locked_replay_source_is_waited_for_then_exits_13(engine: Launcher, original: Path) -> None:
    with closing(sqlite3.connect(original, isolation_level=None)) as con:
        con.execute("PRAGMA journal_mode = DELETE")
        con.execute("BEGIN EXCLUSIVE")
        process = replay(engine, original, 1, overload_after_s=1.0)
        assert process.code(timeout_s=30) == 13
        assert "locked" in process.last_error()["message"]
        con.execute("ROLLBACK")
    assert replay(engine, original, 1).code() == 0
