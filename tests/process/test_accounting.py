"""The accounting balances in every HEARTBEAT line, under load, locks, reloads and reconnects."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from proofs.mock_exchange import MockExchange
from tests.support.accounting import TERMS, check_finished
from tests.support.process import EngineProcess, Launcher


def check(fields: dict[str, Any]) -> None:
    assert fields["received"] == sum(fields[term] for term in TERMS), fields
    assert fields["tick_count"] == fields["ingest_processed"] == fields["admitted"], fields
    assert fields["ingest_received"] == fields["received"], fields
    assert fields["bp_drops_tick"] == fields["dropped"], fields
    assert fields["ticks_stored"] <= fields["admitted"], fields
    assert fields["signals_stored"] <= fields["signal_count"] <= fields["orders"] + CHANNEL, fields
    # Each stage counts at its own moment; the terms of the accounting are of one moment.
    assert min(fields[term] for term in TERMS) >= 0, fields


CHANNEL = 64  # signals that may wait in front of execution


@pytest.mark.holds("ACCOUNTING")
def test_every_heartbeat_balances_under_load(engine: Launcher) -> None:
    settings = {
        "ingest_mode": "MOCK_WS",
        "heartbeat_interval_secs": 0.1,
        "overload_after_s": 60,
        "admit_wait_ms": 1,
        "parse_error_limit": 1_000_000,
        "batch_rows": 50,
        "signal_every_n_ticks": 3,
    }
    small = {"tick": 16, "signal": CHANNEL, "persist": 128}
    with MockExchange(rate=0, seed=3) as exchange:
        settings["ws_url"] = exchange.url("binance", "btcusdt")
        process = engine.start(engine=settings, channels=small)
        process.heartbeat(lambda f: f["ticks_stored"] > 0)
        exchange.command("garbage", n=200)
        exchange.command("repeat", n=200)
        process.heartbeat(lambda f: f["rejected"] > 0 and f["duplicate"] > 0)
        for every in (3, 1, 2):
            lock_out(engine, process)
            engine.write_config({"engine": {**settings, "sample_every": every}, "channels": small})
            process.send(signal.SIGHUP)
            process.wait("reloaded", lambda f, n=every: f["sample_every"] == n)  # type: ignore[misc]
        exchange.command("close")
        process.heartbeat(lambda f: f["source_failures"] > 0 and f["source"] == "mock")
        process.heartbeat(lambda f: len(process.messages("HEARTBEAT")) > 15)  # on a fast machine it was quick
        assert process.stop() == 0
    beats = [*process.messages("HEARTBEAT"), process.final()]
    for fields in beats:
        check(fields)
    assert len(beats) > 15
    received = [fields["received"] for fields in beats]
    assert received == sorted(received)
    for term in TERMS:  # each term occurred
        assert any(fields[term] for fields in beats), term
    # The channel was empty at one moment and full at another; values between them are too rare to require.
    assert {0, small["tick"]} <= {fields["waiting"] for fields in beats}
    run = check_finished(engine.db)
    assert {term: run[term] for term in TERMS} == {term: beats[-1][term] for term in TERMS}


def lock_out(engine: Launcher, process: EngineProcess) -> None:
    """Lock the database until the tick buffer is full and ticks were dropped."""
    dropped = process.heartbeat()["dropped"]
    with closing(sqlite3.connect(engine.db, isolation_level=None, timeout=10)) as con:
        con.execute("BEGIN IMMEDIATE")
        process.heartbeat(lambda f: f["waiting"] == 16 and f["dropped"] > dropped)
        con.execute("ROLLBACK")
