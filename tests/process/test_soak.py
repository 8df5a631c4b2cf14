"""Soaks of a real engine: every row of the exit table, by an engine that really exits with that code."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs.host.database import Store
from proofs.mock_exchange import MockExchange
from tests.support.process import Launcher, wait_until
from tests.support.soak_run import LATER_S, UNIT, Make, SoakRun

FIELDS = [
    "timestamp",
    "run_id",
    "ingest_mode",
    "psi_actions",
    "state",
    "current_sample_every",
    "action",
    "reason",
    "psi",
    "host_psi",
]


@pytest.fixture
def soaks(engine: Launcher, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    runs: list[SoakRun] = []

    def make(**sections: Any) -> SoakRun:
        runs.append(SoakRun(engine, monkeypatch, **sections))
        return runs[-1]

    yield make
    for one in runs:
        one.close()


def sources(path: Path) -> set[str]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as con:
        return {source for (source,) in con.execute("SELECT DISTINCT source FROM ticks")}


def test_working_engine_passes_untouched(soaks: Make) -> None:
    soak = soaks()
    soak.begin(seconds=5)
    entry = soak.end()
    assert (entry["verdict"], soak.code) == ("PASS", 0), entry
    assert soak.actions == ["STARTUP", "COMPLETE"]
    assert not [argv for argv in soak.systemd.commands if argv[1] in ("restart", "stop", "kill") and argv[2] == UNIT]
    assert entry["restored"]
    assert entry["away_s"] == 0.0
    for decision in soak.decisions:
        assert [*decision] == FIELDS
        assert decision["host_psi"].keys() == decision["psi"].keys() == {"cpu", "memory", "io"}
    measured = soak.measured()
    assert measured["ticks"] > 50
    assert measured["away_s"] == 0.0
    assert measured["rss"][0][0][1] > 1000


def test_12_aborts_and_leaves_the_engine_failed(soaks: Make) -> None:
    soak = soaks()
    soak.begin(seconds=60)
    soak.watching()
    soak.systemd.config.write_text("[engine]\nsample_every = 0\n")
    soak.systemd.kill()
    entry = soak.end()
    assert soak.actions == ["STARTUP", "ENGINE_EXIT", "ENGINE_EXIT", "ABORT"]
    assert [d["reason"][:9] for d in soak.decisions[1:3]] == ["SIGKILL: ", "12 CONFIG"]
    assert entry["verdict"] == "FAIL"
    assert entry["restored"], entry["reason"]
    assert soak.systemd.active == "failed"


def test_10_restarts_and_aborts_when_no_run_holds(soaks: Make) -> None:
    with MockExchange(rate=50) as exchange:
        soak = soaks(engine={"ingest_mode": "MOCK_WS", "ws_url": exchange.url(), "network_deadline_s": 0.5})
        soak.begin(seconds=60)
        soak.watching()
    entry = soak.end()
    assert soak.actions == ["STARTUP", *["ENGINE_EXIT"] * 3, "ABORT"]
    assert soak.measured()["restarts"] == {"NETWORK": 3}
    assert "STALL" not in soak.actions, "the engine knows that its feed is down"
    assert entry["verdict"] == "FAIL"


def test_repeated_11_moves_to_the_mock_on_a_scratch_database(engine: Launcher, soaks: Make) -> None:
    with MockExchange(rate=50) as exchange:
        engine.write_sources({"name": "primary", "url": exchange.url()})
        soak = soaks(engine={"ingest_mode": "REAL_WS", "network_deadline_s": 2.0, "parse_error_limit": 3})
        soak.begin(seconds=90)
        soak.watching()
        exchange.command("garbage", n=-1, scope="all")
        soak.until("STARTUP", "ENGINE_EXIT", "ENGINE_EXIT", "ENGINE_RESTART")
        scratch = Store(engine.folder / "run/r1/soak/state/hybrid.db")
        wait_until(scratch.last_tick, "ticks of the mock exchange", LATER_S)
        soak.stop.ask()
        entry = soak.end()
    # On a busy machine systemd has the old engine end so once more before it is stopped for the new one.
    late = soak.actions[4:].count("ENGINE_EXIT")
    assert soak.actions[4:] == ["ENGINE_EXIT"] * late + ["STOP", "ENGINE_STOP"]
    assert late <= 1
    assert soak.decisions[-1]["ingest_mode"] == "MOCK_WS"
    assert soak.measured()["restarts"] == {"PARSE": 2 + late}
    assert sources(engine.db) == {"primary"}
    assert soak.measured()["ticks"] > 0
    assert not soak.measured()["on_the_exchange_asked_for"]
    assert entry["verdict"] == "FAIL"
    assert entry["away_s"] > 0
    assert not soak.systemd.conf.exists()


def test_13_is_one_step_up_the_ladder(engine: Launcher, soaks: Make) -> None:
    (engine.folder / "slow.py").write_text(
        "import pathlib, time\n"
        "class Slow:\n    def on_tick(self, tick):\n"
        f"        if pathlib.Path({str(engine.folder / 'now')!r}).exists(): time.sleep(0.02)\n"
        "def make(settings): return Slow()\n"
    )
    settings = {"strategy": "slow:make", "tick_interval_ms": 5, "admit_wait_ms": 1, "overload_after_s": 1.5}
    soak = soaks(engine=settings, channels={"tick": 64})  # a third of a second: a busy machine alone fills it not
    soak.begin(seconds=90)
    soak.watching()
    old = soak.systemd.invocation
    (engine.folder / "now").touch()
    soak.until("STARTUP", "ENGINE_EXIT", "THROTTLE_UP")
    (engine.folder / "now").unlink()
    wait_until(lambda: soak.systemd.invocation != old and soak.systemd.active == "active", "the next run", LATER_S)
    soak.stop.ask()
    entry = soak.end()
    ups = [decision for decision in soak.decisions if decision["action"] == "THROTTLE_UP"]
    assert [(up["current_sample_every"], up["state"]) for up in ups] == [(5, "THROTTLE1")]
    assert soak.actions[-2:] == ["STOP", "ENGINE_STOP"]
    with sqlite3.connect(f"file:{engine.db}?mode=ro", uri=True) as con:
        sampled = [every for (every,) in con.execute("SELECT sample_every FROM runs ORDER BY id")]
    assert sampled[0] == 1
    assert 5 in sampled
    assert sampled[-1] == 1, "as it was configured, once the soak is over"
    assert entry["verdict"] == "FAIL"
    assert soak.measured()["restarts"] == {"OVERLOAD": 1}


def test_14_aborts(engine: Launcher, soaks: Make) -> None:
    soak = soaks()
    soak.begin(seconds=60)
    soak.watching()
    engine.db.rename(engine.folder / "elsewhere.db")  # a database that is another file now
    entry = soak.end()
    assert soak.actions[:3] == ["STARTUP", "ENGINE_EXIT", "ABORT"]
    assert soak.decisions[1]["reason"].startswith("14 STORAGE")
    assert entry["verdict"] == "FAIL"


def test_bug_aborts(engine: Launcher, soaks: Make) -> None:
    (engine.folder / "broken.py").write_text(
        "import pathlib\n"
        "class Broken:\n    def on_tick(self, tick):\n"
        f"        if pathlib.Path({str(engine.folder / 'now')!r}).exists(): raise ZeroDivisionError('a mistake')\n"
        "def make(settings): return Broken()\n"
    )
    soak = soaks(engine={"strategy": "broken:make"})
    soak.begin(seconds=60)
    soak.watching()
    (engine.folder / "now").touch()
    soak.until("STARTUP", "ENGINE_EXIT", "ABORT")
    (engine.folder / "now").unlink()
    entry = soak.end()
    assert soak.actions == ["STARTUP", "ENGINE_EXIT", "ABORT"]
    assert soak.decisions[1]["reason"].startswith("1 BUG")
    assert entry["verdict"] == "FAIL"
    assert entry["restored"], entry["reason"]


def test_stopped_engine_is_inconclusive(soaks: Make) -> None:
    soak = soaks()
    soak.begin(seconds=60)
    soak.watching()
    soak.systemd.stop()
    entry = soak.end()
    assert soak.actions == ["STARTUP", "ENGINE_EXIT", "STOP"]
    assert entry["verdict"] == "INCONCLUSIVE"
    assert entry["restored"]
    assert soak.systemd.active == "inactive"


def test_stalled_data_restarts_the_engine(soaks: Make) -> None:
    soak = soaks()
    soak.begin(seconds=90)
    soak.watching()
    old = soak.systemd.invocation
    assert soak.systemd._process
    soak.systemd._process.send_signal(signal.SIGSTOP)
    soak.until("STARTUP", "STALL", "ENGINE_RESTART")
    wait_until(lambda: soak.systemd.invocation != old and soak.systemd.active == "active", "another run", LATER_S)
    looks = soak.looks
    wait_until(lambda: soak.looks >= looks + 2, "a look at it", LATER_S)
    soak.stop.ask()
    entry = soak.end()
    assert soak.actions[3:] == ["STOP"], "what the soak ended itself is nobody else's restart"
    assert soak.measured()["stalls"] == 1
    assert entry["verdict"] == "FAIL"


def test_exits_missing_in_the_journal_are_counted_by_nrestarts(soaks: Make) -> None:
    soak = soaks()
    soak.begin(seconds=90)
    soak.watching()
    old = soak.systemd.invocation
    real = soak.systemd._say

    def forgetful(message: str, message_id: str = "", result: str = "") -> None:
        if not message.startswith(("Main process", "Failed", "Scheduled")):
            real(message, message_id, result)

    soak.systemd._say = forgetful  # type: ignore[method-assign]
    soak.systemd.kill()
    soak.until("STARTUP", "ENGINE_EXIT")
    assert soak.systemd.invocation != old
    soak.stop.ask()
    entry = soak.end()
    assert soak.measured()["lost"] == 1
    assert "UNKNOWN" in soak.measured()["restarts"]
    assert entry["verdict"] == "FAIL"


def test_stop_request_restores_the_settings(soaks: Make) -> None:
    soak = soaks()
    soak.begin(seconds=60, psi_actions="logonly")
    soak.until("STARTUP", "ENGINE_RESTART")
    conf = soak.systemd.conf
    wait_until(lambda: conf.exists() and "psi_actions" in conf.read_text().lower(), "the drop-in")
    wait_until(lambda: soak.systemd.active == "active", "the engine up")
    soak.stop.ask()
    soak.end()
    assert "STOP" in soak.actions
    assert not soak.systemd.conf.exists()
    assert soak.systemd.active == "active"
    assert soak.systemd._dropped_in() == {}
    # On the operator's own database it is stopped as its operator would, never killed.
    assert not [argv for argv in soak.systemd.commands if argv[1:2] == ("kill",)]


def test_abort_file_ends_the_soak(engine: Launcher, soaks: Make) -> None:
    soak = soaks()
    soak.begin(seconds=60)
    soak.watching()
    (engine.folder / "ABORT").touch()
    entry = soak.end()
    assert soak.actions == ["STARTUP", "ABORT"]
    assert entry["verdict"] == "INCONCLUSIVE"


def test_unhealthy_engine_is_refused_and_left_alone(engine: Launcher, soaks: Make) -> None:
    soak = soaks()
    soak.begin(seconds=60, before=lambda: engine.write_config({"app": {"db_path": "/nowhere/hybrid.db"}}))
    entry = soak.end()
    assert soak.actions == ["STARTUP", "ABORT"]
    assert "health gate" in soak.decisions[-1]["reason"]
    assert entry["verdict"] == "INCONCLUSIVE"
    assert entry["restored"], entry["reason"]


def test_threshold_below_two_heartbeats_is_refused(soaks: Make) -> None:
    soak = soaks(engine={"heartbeat_interval_secs": 3})
    soak.begin(seconds=60)
    entry = soak.end()
    assert "--stall-threshold-sec 4" in entry["reason"]
    assert "at least 6" in entry["reason"]
    assert entry["verdict"] == "INCONCLUSIVE"
