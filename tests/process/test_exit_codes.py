"""The exit code of a run, in every way that it can end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from datetime import datetime
from itertools import pairwise

import pytest

from tests.support.accounting import check_finished, rows
from tests.support.process import COMMAND, ROOT, Launcher, clean_environment, wait_until, write_slow_strategy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.holds("S13")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_exits_0_with_everything_stored(engine: Launcher, number: int) -> None:
    process = engine.start()
    process.heartbeat(lambda f: f["ticks_stored"] > 20)
    assert process.stop(number) == 0
    run = check_finished(engine.db)
    final = process.final()
    for name in ("received", "sampled_out", "rejected", "duplicate", "dropped", "waiting", "admitted"):
        assert final[name] == run[name], name
    assert final["tick_count"] == final["ingest_processed"] == final["admitted"] == final["ticks_stored"]
    assert final["persist_count"] == sum(run[f"{n}_stored"] for n in ("ticks", "signals", "orders", "trades"))
    assert (final["bp_drops_signal"], final["bp_drops_persist"], final["exit_code"]) == (0, 0, 0)
    assert process.strange == []


@pytest.mark.holds("S13")
def test_stop_waits_for_a_slow_strategy(engine: Launcher) -> None:
    write_slow_strategy(engine.folder, 0.02)
    process = engine.start(engine={"strategy": "slow:make", "tick_interval_ms": 5}, channels={"tick": 40})
    process.heartbeat(lambda f: f["waiting"] == 40)
    assert process.stop() == 0
    check_finished(engine.db)
    assert rows(engine.db, "SELECT count FROM gaps WHERE kind = 'stop'") == []


def test_run_seconds_exit_0(engine: Launcher) -> None:
    started_at = time.monotonic()
    process = engine.start("--seconds", "0.5")
    assert process.code() == 0
    assert time.monotonic() - started_at >= 0.5
    assert check_finished(engine.db)["ticks_stored"] > 10


@pytest.mark.holds("S9", "G0")
def test_armed_engine_in_shadow_stays_in_shadow(engine: Launcher) -> None:
    process = engine.start("--seconds", "0.5", env={"HYBRID_ENGINE__LIVE_ARMED": "true"})
    assert process.code() == 0
    assert rows(engine.db, "SELECT DISTINCT mode, status, reason FROM orders") == [
        ("SHADOW", "FILLED", "SHADOW_RECORDED")
    ]


@pytest.mark.holds("G5")
def test_no_source_exits_10_after_deadline(engine: Launcher) -> None:
    url = f"ws://127.0.0.1:{free_port()}/ws/btcusdt@trade"
    process = engine.start(
        engine={"ingest_mode": "MOCK_WS", "ws_url": url, "network_deadline_s": 1.2, "heartbeat_interval_secs": 60}
    )
    process.ready()
    started_at = time.monotonic()
    assert process.code() == 10
    assert time.monotonic() - started_at >= 1.0
    assert "connection refused" in process.messages("source failed")[0]["reason"]
    assert process.last_error()["exit_name"] == "NETWORK"
    assert rows(engine.db, "SELECT kind, symbol, count, to_ms > from_ms FROM gaps") == [("down", "BTCUSDT", None, 1)]
    assert rows(engine.db, "SELECT exit_code FROM runs") == [(10,)]


def test_unknown_host_fails_the_source(engine: Launcher) -> None:
    process = engine.start(
        engine={"ingest_mode": "MOCK_WS", "ws_url": "ws://no-such-host.invalid/ws/x@trade", "network_deadline_s": 0.5}
    )
    assert process.code() == 10
    assert process.messages("source failed")[0]["source"] == "mock"


STRATEGY_THAT_RAISES = """
class Broken:
    def on_tick(self, tick):
        if tick.id == 5:
            raise ZeroDivisionError("the strategy's own mistake")

def make(settings):
    return Broken()
"""


@pytest.mark.holds("G5")
def test_bug_exits_1_with_traceback(engine: Launcher) -> None:
    (engine.folder / "broken.py").write_text(STRATEGY_THAT_RAISES)
    process = engine.start(engine={"strategy": "broken:make"})
    assert process.code() == 1
    error = process.last_error()
    assert "bug: ZeroDivisionError: the strategy's own mistake" in error["message"]
    assert "on_tick" in error["traceback"]
    assert "broken.py" in error["traceback"]
    assert rows(engine.db, "SELECT exit_code FROM runs") == [(1,)]


@pytest.mark.parametrize(
    ("factory", "output"),
    [
        ("none_such:make", "none_such"),
        ("strange:missing", "missing"),
        ("strange:NUMBER", "cannot be called"),
        ("strange:make_nothing", "no on_tick"),
        (":make", "module:factory"),
        ("strange", "module:factory"),
    ],
)
def test_invalid_strategy_exits_12(engine: Launcher, factory: str, output: str) -> None:
    (engine.folder / "strange.py").write_text("NUMBER = 3\ndef make_nothing(settings): return object()\n")
    process = engine.start(engine={"strategy": factory})
    assert process.code() == 12
    assert "engine.strategy" in process.last_error()["message"]
    assert output in process.last_error()["message"]
    assert not engine.db.exists()


@pytest.mark.parametrize(
    "signal_line",
    [
        "return Signal.of(tick, 'BUY', float('nan'), 'X', 0.5)",
        "return Signal.of(tick, 'BUY', -1.0, 'X', 0.5)",
        "return Signal.of(tick, 'HOLD', 1.0, 'X', 0.5)",
        "return Signal.of(tick, 'BUY', 1.0, 'X', float('nan'))",
        "return Signal.of(tick._replace(id=tick.id + 1), 'BUY', 1.0, 'X', 0.5)",
        "return Signal.of(tick._replace(symbol='NONE'), 'BUY', 1.0, 'X', 0.5)",
        "return tuple(Signal.of(tick, 'BUY', 1.0, 'X', 0.5))",
    ],
)
def test_invalid_signal_is_named_as_a_bug(engine: Launcher, signal_line: str) -> None:
    (engine.folder / "odd.py").write_text(
        "from hybrid_engine.domain.events import Signal\n"
        f"class Odd:\n    def on_tick(self, tick):\n        {signal_line}\n"
        "def make(settings): return Odd()\n"
    )
    process = engine.start(engine={"strategy": "odd:make"})
    assert process.code() == 1
    assert "strategy Odd returned " in process.last_error()["message"]
    assert rows(engine.db, "SELECT id FROM signals") == []


@pytest.mark.holds("G5")
def test_broken_database_exits_14_after_deadline(engine: Launcher) -> None:
    engine.db.write_bytes(b"this is no database" * 100)
    before = engine.db.read_bytes()
    started_at = time.monotonic()
    process = engine.start(engine={"storage_deadline_s": 1.0})
    assert process.code() == 14
    assert time.monotonic() - started_at >= 1.0
    assert process.messages("ready") == []
    assert "file is not a database" in process.last_error()["message"]
    assert len(process.messages("cannot open the database")) == 1
    assert engine.db.read_bytes() == before
    assert sorted(p.name for p in engine.folder.iterdir()) == ["config.toml", "hybrid.db", "stderr"]


def test_missing_directory_exits_14_unless_created_in_time(engine: Launcher) -> None:
    db = engine.folder / "later" / "hybrid.db"
    process = engine.start(app={"db_path": str(db)}, engine={"storage_deadline_s": 15})
    assert "later" in process.wait("cannot open the database")["error"]
    db.parent.mkdir()
    process.ready()
    assert process.stop() == 0
    assert engine.start(app={"db_path": "nowhere/x.db"}).code() == 14


def test_second_engine_on_a_database_exits_14(engine: Launcher) -> None:
    first = engine.start()
    first.ready()
    second = engine.start()
    assert second.code() == 14
    assert "another engine writes to this database" in second.last_error()["message"]
    first.heartbeat()
    assert first.stop() == 0
    check_finished(engine.db)


def test_killed_run_is_a_crash_to_the_next(engine: Launcher) -> None:
    first = engine.start()
    stored = first.heartbeat(lambda f: f["ticks_stored"] > 20)["ticks_stored"]
    first.kill()
    second = engine.start()
    second.heartbeat(lambda f: f["ticks_stored"] > 0)
    assert second.stop() == 0
    assert rows(engine.db, "SELECT kind, count, to_ms >= from_ms FROM gaps WHERE run_id = 1") == [("crash", None, 1)]
    ((ended_ms, code, ticks),) = rows(engine.db, "SELECT ended_ms, exit_code, ticks_stored FROM runs WHERE id = 1")
    assert ended_ms is not None
    assert code is None
    assert ticks >= stored
    # Ids continue where the crash left them, so every tick has its own.
    assert rows(engine.db, "SELECT min(id) FROM ticks WHERE run_id = 2") == [(ticks + 1,)]
    assert rows(engine.db, "PRAGMA integrity_check") == [("ok",)]


def test_closed_stdout_does_not_change_the_exit(engine: Launcher) -> None:
    process = engine.start()
    process.ready()
    assert process.popen.stdout is not None
    # A pipe whose reader is gone: every later line raises EPIPE.
    reader_fd = process.popen.stdout.fileno()
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, reader_fd)
    os.close(devnull)
    stored = wait_until(lambda: rows(engine.db, "SELECT ticks_stored FROM runs")[0][0], "rows without a reader")
    wait_until(lambda: rows(engine.db, "SELECT ticks_stored FROM runs")[0][0] > stored + 20, "more rows")
    assert process.stop() == 0
    check_finished(engine.db)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_stream_closed_at_start_is_accepted(engine: Launcher, number: int) -> None:
    process = engine.start("--seconds", "0.4", preexec=lambda: os.close(number))
    assert process.code() == 0
    check_finished(engine.db)


def test_exit_code_survives_closed_stdout(engine: Launcher) -> None:
    config = engine.write_config({"mode": "LIVE"})
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    result = subprocess.run(
        [*COMMAND, "run", "--config", str(config)],
        stdout=write_fd,
        env=clean_environment(),
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    os.close(write_fd)
    assert result.returncode == 12


@pytest.mark.holds("G5")
def test_overload_exits_13_after_deadline(engine: Launcher) -> None:
    write_slow_strategy(engine.folder, 0.05)
    settings = {"strategy": "slow:make", "tick_interval_ms": 1, "admit_wait_ms": 1, "overload_after_s": 1.5}
    process = engine.start(engine=settings, channels={"tick": 4})
    process.ready()
    started_at = time.monotonic()
    assert process.code() == 13
    assert time.monotonic() - started_at >= 1.5
    assert "ticks were dropped in every second of 1.5 s" in process.last_error()["message"]
    # It drains like a stop: what was admitted is stored, and what was dropped is counted.
    final = process.final()
    assert final["admitted"] == final["ticks_stored"] > 0
    assert final["received"] == final["dropped"] + final["admitted"]
    assert rows(engine.db, "SELECT exit_code, waiting, admitted - ticks_stored FROM runs") == [(13, 0, 0)]
    assert rows(engine.db, "SELECT sum(count) FROM gaps") == [(final["dropped"],)]


@pytest.mark.holds("G4")
def test_heartbeats_come_at_their_interval(engine: Launcher) -> None:
    process = engine.start(engine={"heartbeat_interval_secs": 0.4})
    process.wait("HEARTBEAT", lambda _: len(process.messages("HEARTBEAT")) >= 8)
    assert process.stop() == 0
    lines = [line for line in process.lines if line["fields"]["message"] == "HEARTBEAT"]
    times = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]
    assert 0.3 <= sorted(after - before for before, after in pairwise(times))[1] < 0.6  # a busy machine has late ones


FIELDS_OF_THE_FIRST_SYSTEM = [
    "tick_count",
    "signal_count",
    "shadow_orders",
    "trade_count",
    "persist_count",
    "persist_errors",
    "ingest_received",
    "ingest_processed",
    "bp_drops_tick",
    "bp_drops_signal",
    "bp_drops_persist",
    "risk_vetoes",
]
FIELDS_SINCE = [
    "received",
    "sampled_out",
    "rejected",
    "duplicate",
    "dropped",
    "waiting",
    "admitted",
    "ticks_stored",
    "source",
    "sample_every",
]


@pytest.mark.holds("G4")
def test_heartbeat_and_final_metrics_carry_every_field(engine: Launcher) -> None:
    process = engine.start("--mode", "PAPER")
    process.heartbeat(lambda f: f["trade_count"] > 0)
    assert process.stop() == 0
    for message in ("HEARTBEAT", "FINAL METRICS"):
        for fields in process.messages(message):
            assert set(FIELDS_OF_THE_FIRST_SYSTEM + FIELDS_SINCE) <= set(fields), message
            assert fields["shadow_orders"] == 0  # orders in mode PAPER are not counted as shadow orders
            assert fields["received"] == fields["waiting"] + fields["admitted"]
    (starting,) = process.messages("engine starting")
    expected = {"version", "release_name", "release_digest", "config_digest", "mode", "ingest_mode"}
    assert expected <= set(starting)
    assert (starting["mode"], starting["ingest_mode"]) == ("PAPER", "SYNTHETIC")
    assert process.messages("ready")[0]["run_id"] == 1
    for line in process.lines:
        assert set(line) == {"timestamp", "level", "fields", "target"}
    assert rows(engine.db, "SELECT DISTINCT mode, reason, status FROM orders") == [("PAPER", "PAPER_FILLED", "FILLED")]
    assert rows(engine.db, "SELECT id FROM trades WHERE abs(fee - size * price * 0.001) > 1e-12") == []
