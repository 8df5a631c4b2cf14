"""The commands beside `run`, and every kind of mistake that ends with exit code 12."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_engine import __version__
from hybrid_engine.config.load import KEYS
from tests.support.process import COMMAND, Launcher, clean_environment


@pytest.mark.holds("G5")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "required"),
        (["fly"], "invalid choice"),
        (["run", "--fast"], "unrecognized arguments: --fast"),
        (["run", "--config"], "expected one argument"),
        (["config"], "required"),
        (["config", "edit"], "invalid choice"),
        (["config", "check", "--config", "/nowhere/config.toml"], "/nowhere/config.toml: cannot be read: No such file"),
        (["config", "check", "--config", "/tmp"], "/tmp: cannot be read: Is a directory"),
        (["config", "check", "--sample-every", "0"], "engine.sample_every = 0: must be a whole number from 1"),
        (["config", "check", "--sample-every", "2.5"], 'engine.sample_every = "2.5": must be a whole number'),
        (["config", "check", "--seconds", "nan"], "engine.run_seconds = NaN: must be a number from 0"),
        (["config", "check", "--mode", "live"], "mode = LIVE: refused, live_armed is false"),
        (["config", "check", "--mode", "SHADOWY"], 'mode = "SHADOWY": must be one of SHADOW, PAPER, LIVE'),
        (["config", "check", "--ingest", "MOCK_WS"], 'engine.ws_url = "": MOCK_WS needs a ws:// or wss:// URL'),
        (["config", "check", "--ingest", "MOCK_WS", "--ws-url", "WS://h/"], "MOCK_WS needs a ws:// or wss:// URL"),
        (["config", "check", "--ingest", "MOCK_WS", "--ws-url", "ws://h h/"], "MOCK_WS needs a ws:// or wss:// URL"),
        (["config", "check", "--ingest", "REPLAY"], "engine.replay_from: REPLAY needs"),
        (["config", "check", "--db", ""], 'app.db_path = "": must name the database file'),
        (["health", "--mode", "PAPER"], "unrecognized arguments"),
    ],
)
def test_usage_error_exits_12_with_one_line(engine: Launcher, args: list[str], message: str) -> None:
    completed = engine.command(*args)
    assert completed.returncode == 12
    assert message in completed.stderr
    assert completed.stderr.count("\n") == 1
    assert completed.stdout == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[engine\n", "is not valid TOML"),
        ("[engine]\nsample_evry = 5\n", "engine.sample_evry: unknown key; did you mean engine.sample_every?"),
        ('mode = "YOLO"\n', 'mode = "YOLO": must be one of SHADOW, PAPER, LIVE'),
        ('mode = "LIVE"\nlive_armed = true\n', "mode = LIVE: refused"),
        ("[channels]\ntick_channel_size = 1\n", "channels.tick_channel_size: this key is now called channels.tick"),
    ],
)
def test_run_logs_why_it_exits_12_and_touches_nothing(engine: Launcher, text: str, message: str) -> None:
    config = engine.folder / "bad.toml"
    config.write_text(text)
    completed = engine.command("run", "--config", str(config), "--db", str(engine.db))
    assert completed.returncode == 12
    (line,) = [json.loads(text) for text in completed.stdout.splitlines()]
    assert (line["level"], line["fields"]["exit_code"], line["fields"]["exit_name"]) == ("ERROR", 12, "CONFIG")
    assert line["fields"]["message"].startswith(f"{config}: ")
    assert message in line["fields"]["message"]
    assert completed.stderr == ""
    assert not engine.db.exists()


def test_no_secret_of_an_address_is_printed(engine: Launcher) -> None:
    """Neither where the address is checked, nor where the source is connected to, nor where it is refused."""
    listen_key = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"
    address = f"ws://me:hunter2@127.0.0.1:1/ws/{listen_key}?token=hunter&signature=hunter"
    config = engine.write_config({"engine": {"ingest_mode": "MOCK_WS", "network_deadline_s": 0.5, "ws_url": address}})
    checked = engine.command("config", "check", "--config", str(config))
    refused = engine.command(
        "config", "check", "--config", str(config), "--ws-url", address.replace("hunter2", "hunter/2")
    )
    run = engine.command("run", "--config", str(config), "--db", str(engine.db))
    assert [checked.returncode, refused.returncode, run.returncode] == [0, 12, 10]
    for output in (checked, refused, run):
        assert "ws://[redacted]@127.0.0.1:1/ws/[redacted]?token=[redacted]" in output.stdout + output.stderr
        assert "hunter" not in output.stdout + output.stderr
        assert listen_key not in output.stdout + output.stderr


def test_config_check_prints_every_value_with_its_origin(engine: Launcher) -> None:
    config = engine.write_config({"mode": "paper", "engine": {"sample_every": 3, "batch_rows": 50}})
    completed = engine.command(
        *("config", "check", "--config", str(config), "--sample-every", "7"),
        env={"HYBRID_ENGINE__ENGINE__SAMPLE_EVERY": "5", "HYBRID_ENGINE__ENGINE__SEED": "9"},
    )
    assert (completed.returncode, completed.stderr) == (0, "")
    lines = {line.partition(" = ")[0].strip(): line for line in completed.stdout.splitlines()}
    assert set(KEYS) <= set(lines)
    for key, value, origin in (
        ("mode", '"PAPER"', str(config)),
        ("engine.sample_every", "7", "command line"),
        ("engine.seed", "9", "environment HYBRID_ENGINE__ENGINE__SEED"),
        ("engine.batch_rows", "50", str(config)),
        ("channels.tick", "256", "default"),
    ):
        assert lines[key].split(" = ")[1].split(" #")[0].strip() == value
        default = "" if origin == "default" else f", default {json.dumps(KEYS[key].default)}"
        assert lines[key].endswith(f"# {origin}{default}")
    assert completed.stdout.splitlines()[-1].startswith("config digest ")


def test_config_show_prints_an_equivalent_file(engine: Launcher) -> None:
    odd = 'cölour "\\\x7f\t😀'
    config = engine.write_config({"mode": "PAPER", "engine": {"price_step": 1e-7}})
    config.write_text(config.read_text().replace("[app]", '[app]\nsymbol = "cölour \\"\\\\\\u007f\\t😀"'))
    printed = engine.command("config", "show", "--config", str(config))
    assert printed.returncode == 0
    again = engine.folder / "again.toml"
    again.write_text(printed.stdout)
    assert tomllib.loads(printed.stdout)["app"]["symbol"] == odd
    digests = [
        engine.command("config", "check", "--config", str(path)).stdout.splitlines()[-1] for path in (config, again)
    ]
    assert digests[0] == digests[1]
    assert engine.command("config", "show", "--config", str(again)).stdout == printed.stdout


def test_config_check_lists_the_sources(engine: Launcher) -> None:
    engine.write_sources(
        {"name": "b", "url": "ws://h/ws/btc@trade", "priority": 9},
        {"name": "a", "url": "wss://h/stream?streams=btc@trade"},
    )
    config = engine.write_config({"engine": {"ingest_mode": "real_ws"}})
    completed = engine.command("config", "check", "--config", str(config))
    assert [line.split()[1] for line in completed.stdout.splitlines() if line.startswith("source ")] == ["a:", "b:"]
    (engine.folder / "ws_sources.toml").unlink()
    completed = engine.command("config", "check", "--config", str(config))
    assert completed.returncode == 12
    assert f"{engine.folder}/ws_sources.toml: REAL_WS needs this file" in completed.stderr


def test_version_and_help(engine: Launcher) -> None:
    about = json.loads(engine.command("version", "--json").stdout)
    assert about == {"version": __version__, "release_name": "unreleased", "release_digest": "unreleased"}
    assert engine.command("version").stdout == f"hybrid-engine {__version__} (unreleased)\n"
    printed = engine.command("run", "--help")
    assert printed.returncode == 0
    for word in ("--sample-every", "SIGHUP", "12  CONFIG", "HYBRID_ENGINE__ENGINE__SAMPLE_EVERY"):
        assert word in printed.stdout


def test_installed_command_is_this_checkout() -> None:
    script = Path(sys.executable).with_name("hybrid-engine")
    completed = subprocess.run(
        [script, "version"], capture_output=True, text=True, env=clean_environment(), check=False
    )
    assert completed.stdout.startswith(f"hybrid-engine {__version__}")


def test_early_closed_pipe_is_accepted(engine: Launcher) -> None:
    completed = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {' '.join(COMMAND)} config show | head -n 1"],
        capture_output=True,
        text=True,
        env=clean_environment(),
        cwd=engine.folder,
        check=False,
    )
    assert completed.stderr == ""


def health(engine: Launcher) -> tuple[int, dict[str, bool]]:
    """The exit code, and the result of each check by name."""
    completed = engine.command("health", "--json", "--config", str(engine.folder / "config.toml"))
    answer = json.loads(completed.stdout)
    result = {check["name"]: check["ok"] for check in answer["checks"]}
    assert answer["healthy"] == all(result.values())
    return completed.returncode, result


CHECKS = ("database", "running", "durability", "books", "frames", "symbols")


def test_health_of_running_stopped_and_killed_engine(engine: Launcher) -> None:
    engine.write_config({})
    assert health(engine) == (1, {"database": False})
    process = engine.start()
    process.heartbeat(lambda f: f["ticks_stored"] > 0)
    assert health(engine) == (0, dict.fromkeys(CHECKS, True))
    engine.write_config({"mode": "LIVE"})  # the gate of LIVE matters for the next start only
    assert health(engine) == (0, dict.fromkeys(CHECKS, True))
    engine.write_config({})
    assert process.stop() == 0
    assert health(engine) == (1, {**dict.fromkeys(CHECKS, True), "running": False})
    with closing(sqlite3.connect(engine.db, isolation_level=None)) as con:
        # The database as a crash leaves it, ten minutes later; then with counters that do not balance.
        con.execute("UPDATE runs SET ended_ms = NULL, updated_ms = updated_ms - 600000, last_frame_ms = 1")
        assert health(engine) == (1, {**dict.fromkeys(CHECKS, True), "running": False, "frames": False})
        con.execute("UPDATE runs SET updated_ms = updated_ms + 600000, received = received + 1")
        assert health(engine)[1]["books"] is False
        con.execute("DELETE FROM ticks")
    text = engine.command("health", "--config", str(engine.folder / "config.toml"))
    assert text.returncode == 1
    assert "FAIL books: received " in text.stdout
    assert "ok   database: " in text.stdout


@pytest.mark.holds("S1")
def test_health_reports_durability(engine: Launcher) -> None:
    process = engine.start(engine={"durability": "power"})
    assert process.wait("store verified")["synchronous"] == 2
    process.heartbeat(lambda f: f["ticks_stored"] > 0)
    assert health(engine) == (0, dict.fromkeys(CHECKS, True))
    engine.write_config({"engine": {"durability": "normal"}})
    assert health(engine) == (1, {**dict.fromkeys(CHECKS, True), "durability": False})
    text = engine.command("health", "--config", str(process.config)).stdout
    assert "FAIL durability: power, configured normal" in text
    assert process.stop() == 0
    with closing(sqlite3.connect(engine.db, isolation_level=None)) as con:
        con.execute("UPDATE runs SET durability = NULL")  # as an earlier release leaves it
    assert health(engine)[1]["durability"] is True


@pytest.mark.parametrize("kind", ["garbage", "empty", "foreign", "foreign with runs", "name too long", "a directory"])
def test_health_of_foreign_database_exits_1(engine: Launcher, kind: str) -> None:
    db = engine.db
    if kind == "garbage":
        db.write_bytes(b"garbage" * 1000)
    elif kind == "empty":
        db.touch()
    elif kind == "a directory":
        db.mkdir()
    elif kind == "name too long":
        db = engine.folder / ("x" * 300)
    else:
        with closing(sqlite3.connect(db, isolation_level=None)) as con:
            con.execute("CREATE TABLE runs (id INTEGER)" if "runs" in kind else "CREATE TABLE other (id INTEGER)")
            if "runs" in kind:
                con.execute("INSERT INTO runs VALUES (1)")
    engine.write_config({"app": {"db_path": str(db)}})
    assert health(engine) == (1, {"database": False})
