"""SIGHUP: what applies at once, what needs a restart, what is refused."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.accounting import check_finished, rows
from tests.support.notify import Manager
from tests.support.process import Launcher, wait_until


@pytest.mark.holds("SAMPLING")
def test_reload_applies_at_the_logged_received(engine: Launcher) -> None:
    with Manager(engine.folder / "notify") as manager:
        process = engine.start(engine={"sample_every": 3, "log_level": "INFO"}, env=manager.env)
        process.heartbeat(lambda f: f["received"] > 50 and f["sample_every"] == 3)
        engine.write_config({"engine": {"sample_every": 7, "log_level": "DEBUG"}})
        process.send(signal.SIGHUP)
        reloaded = process.wait("reloaded")
        manager.wait("MONOTONIC_USEC=", timeout_s=5)
        reloading = manager.wait("RELOADING=1")
        manager.wait("READY=1", after=reloading)
        assert sorted(reloaded["changed"]) == ["engine.log_level", "engine.sample_every"]
        process.wait("batch flushed")  # DEBUG is in force
        process.heartbeat(lambda f: f["received"] > reloaded["received"] + 50 and f["sample_every"] == 7)
        assert process.stop() == 0
    run = check_finished(engine.db)
    at = reloaded["received"]
    assert run["admitted"] == at // 3 + (run["received"] - at) // 7
    assert process.messages("these changes need a restart") == []


def test_reload_without_changes_restarts_sampling(engine: Launcher) -> None:
    process = engine.start(engine={"sample_every": 1000})
    process.heartbeat(lambda f: f["received"] > 10)
    for _ in range(3):
        after = len(process.lines)
        process.send(signal.SIGHUP)
        assert process.wait("reloaded", after=after)["changed"] == []
    assert process.stop() == 0
    assert check_finished(engine.db)["admitted"] == 0


def test_reload_names_keys_that_need_a_restart(engine: Launcher) -> None:
    process = engine.start()
    process.heartbeat()
    engine.write_config({"mode": "PAPER", "engine": {"tick_interval_ms": 500, "batch_rows": 3}})
    process.send(signal.SIGHUP)
    warned = process.wait("these changes need a restart")
    assert sorted(warned["keys"]) == ["engine.tick_interval_ms", "mode"]
    assert process.messages("reloaded")[0]["changed"] == ["engine.batch_rows"]
    before = process.heartbeat()
    process.heartbeat(lambda f: f["received"] > before["received"] + 50 and f["trade_count"] > before["trade_count"])
    assert process.stop() == 0
    assert rows(engine.db, "SELECT DISTINCT mode FROM orders") == [("SHADOW",)]


def test_reload_refuses_a_bad_file(engine: Launcher) -> None:
    with Manager(engine.folder / "notify") as manager:
        process = engine.start(engine={"sample_every": 2}, env=manager.env)
        process.heartbeat()
        bad = {
            "not TOML": "[engine",
            "sample_evry": "[engine]\nsample_evry = 5\n",
            "engine.sample_every = 0": "[engine]\nsample_every = 0\n",
            "mode = LIVE": 'mode = "LIVE"\n',
        }
        for message, text in bad.items():
            after = len(process.lines)
            process.config.write_text(text)
            process.send(signal.SIGHUP)
            refused = process.wait("reload refused", after=after)
            assert str(process.config) in refused["error"]
            assert message in refused["error"] or message == "not TOML"
        process.config.unlink()
        process.send(signal.SIGHUP)
        process.wait("reload refused", lambda f: "No such file" in f["error"])
        manager.wait("the last reload was refused")
        assert process.heartbeat()["sample_every"] == 2
        assert process.stop() == 0
    run = check_finished(engine.db)
    assert run["admitted"] == run["received"] // 2
    assert process.messages("reloaded") == []


def test_reload_keeps_command_line_precedence(engine: Launcher) -> None:
    process = engine.start("--sample-every", "4", env={"HYBRID_ENGINE__ENGINE__LOG_LEVEL": "WARN"})
    assert process.popen.poll() is None
    engine.write_config({"engine": {"sample_every": 9}})
    # At level WARN nothing is logged, so the result is read from the database.
    wait_until(lambda: engine.db.exists() and rows(engine.db, "SELECT 1 FROM sqlite_schema"), "the database")
    wait_until(lambda: rows(engine.db, "SELECT received FROM runs WHERE received > 20"), "some ticks")
    process.send(signal.SIGHUP)
    before = rows(engine.db, "SELECT received FROM runs")[0][0]
    wait_until(lambda: rows(engine.db, f"SELECT 1 FROM runs WHERE received > {before + 40}"), "more ticks")
    assert process.stop() == 0
    run = check_finished(engine.db)
    assert 0 <= run["received"] // 4 - run["admitted"] <= 1


def test_signals_are_handled_at_any_moment(engine: Launcher) -> None:
    """A handler runs between any two steps of the main thread, so many signals hit many of these steps."""
    process = engine.start(engine={"log_level": "WARN"})
    wait_until(lambda: engine.db.exists() and rows(engine.db, "SELECT 1 FROM sqlite_schema"), "the database")
    wait_until(lambda: rows(engine.db, "SELECT received FROM runs WHERE received > 20"), "some ticks")
    for _ in range(2000):
        process.send(signal.SIGHUP)
        time.sleep(0.0003)  # signals that are pending together count as one
    assert process.stop() == 0
    check_finished(engine.db)
