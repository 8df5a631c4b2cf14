"""A flood of 50,000 stored ticks, killed in the middle and restarted, is replayed byte for byte."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proofs.mock_exchange import MockExchange
from tests.support.accounting import TABLES, check_finished, check_snapshot, rows
from tests.support.process import Launcher, wait_until

TICKS = 50_000
EVERY = 2
CAPS = {"max_exposure_usd": 25.0, "max_symbol_exposure_usd": 25.0}

# Orders of ten dollars that follow the price, so that vetoes and trades occur all the time.
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
            return Signal.of(tick, side, 10.0 / tick.price, "UP_OR_DOWN", 1.0 / (1 + self.seen % 7))

def make(settings):
    return Greedy()
"""


def stored(db: Path) -> int:
    """The number of ticks of all runs (ids are missing where ticks were dropped); 0 without a database."""
    try:
        return int(rows(db, "SELECT coalesce(sum(ticks_stored), 0) FROM runs")[0][0])
    except sqlite3.OperationalError:
        return 0


def as_bytes(db: Path, table: str, run: int) -> Iterator[bytes]:
    """Each row, with floats compared bit by bit."""
    with closing(sqlite3.connect(f"{db.as_uri()}?mode=ro", uri=True)) as con:
        query = f"SELECT t.* FROM {table} t JOIN ticks k ON k.id = t.id WHERE k.run_id = ? ORDER BY t.id"
        for row in con.execute(query, (run,)):
            values = [value.hex() if isinstance(value, float) else repr(value) for value in row]
            if table == "ticks":
                del values[1]  # the run's own number
            yield "|".join(values).encode()


@pytest.mark.holds("REPLAY")
def test_replay_of_50_000_ticks_with_a_crash_is_identical(engine: Launcher) -> None:
    (engine.folder / "greedy.py").write_text(STRATEGY)
    calm = {
        "strategy": "greedy:make",
        "run_seconds": 600,
        "heartbeat_interval_secs": 1,
        "batch_rows": 1000,
        "flush_interval_ms": 50,
        "overload_after_s": 600,  # the exchange sends without end, and the machine may be busy
    }
    with MockExchange(rate=0, seed=7) as exchange:
        live = {**calm, "ingest_mode": "MOCK_WS", "ws_url": exchange.url("binance", "btcusdt"), "sample_every": EVERY}
        process = engine.start(engine=live, risk_caps=CAPS)
        wait_until(lambda: stored(engine.db) > TICKS // 2, "half of the ticks", 180)
        process.send(signal.SIGKILL)
        assert process.code() == -signal.SIGKILL
        half = stored(engine.db)  # there may be more than were waited for
        process = engine.start(engine=live, risk_caps=CAPS)
        wait_until(lambda: stored(engine.db) > half + TICKS // 2, "all of the ticks", 180)
        assert process.stop() == 0
    with closing(sqlite3.connect(engine.db, isolation_level=None)) as con:
        crashed, finished = check_snapshot(con, 1), check_finished(engine.db, 2)
    assert crashed["exit_code"] is None
    assert crashed["ticks_stored"] + finished["ticks_stored"] > TICKS
    for run in (crashed, finished):
        assert run["sampled_out"] > 10_000
        assert run["orders_stored"] > run["trades_stored"] > 1000  # vetoes, and trades
    original = engine.folder / "original.db"
    engine.db.rename(original)
    for number in (1, 2):  # both into one database: their ids do not overlap
        again = {**calm, "ingest_mode": "REPLAY", "replay_from": {"database": str(original), "run": number}}
        # Batches of another size than in the earlier run.
        assert engine.start(engine={**again, "batch_rows": 777}, risk_caps=CAPS).code(180) == 0
        replayed = check_finished(engine.db, number)
        assert replayed["ticks_stored"] == (crashed, finished)[number - 1]["ticks_stored"]
        for table in TABLES:
            expected, result = list(as_bytes(original, table, number)), list(as_bytes(engine.db, table, number))
            assert result == expected, (number, table)
            assert len(result) == replayed[f"{table}_stored"]
