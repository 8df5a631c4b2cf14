"""`hybrid-engine capture` records frames as they arrive, keeps them however it ends, and they can be replayed."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from proofs.mock_exchange import MockExchange
from tests.support import programs
from tests.support.accounting import check_finished, rows
from tests.support.process import COMMAND, Launcher, clean_environment, wait_until


def recorded(path: Path) -> list[dict[str, Any]]:
    """The lines of the file. Each must be complete, and the times must not decrease."""
    text = path.read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(list(line) == ["received_at", "frame"] for line in lines)
    times = [line["received_at"] for line in lines]
    assert times == sorted(times)
    return lines


def ids(path: Path) -> list[int]:
    frames = [json.loads(line["frame"]) for line in recorded(path)]
    return [frame["trade_id"] for frame in frames if frame.get("type") == "match"]


class Recording:
    """`hybrid-engine capture` of a source named `one`, as a process."""

    def __init__(self, engine: Launcher, url: str, *more: str, preexec: Callable[[], None] | None = None) -> None:
        engine.write_sources({"name": "one", "url": url, "kind": "coinbase"})
        self.out = engine.folder / "out.jsonl"
        config = engine.write_config({"engine": {"ingest_mode": "SYNTHETIC", "dead_after_s": 1.0}})
        given = ["--config", str(config), "--source", "one", "--out", str(self.out)]
        self.process = programs.start(
            [*COMMAND, "capture", *given, *(more or ("--seconds", "60"))],
            stderr=subprocess.PIPE,
            cwd=engine.folder,
            env=clean_environment({"PYTHONPATH": str(Path(__file__).resolve().parents[2])}),
            preexec_fn=preexec,
        )

    def end(self) -> tuple[int, str]:
        """The exit code and the last line of output."""
        _, message = self.process.communicate(timeout=30)
        return self.process.returncode, message.splitlines()[-1]


def test_capture_plays_back_trade_by_trade(engine: Launcher) -> None:
    with MockExchange(count=300, rate=0, seed=5, heartbeat=0.1) as exchange:
        recording = Recording(engine, exchange.url("coinbase"))
        exchange.wait(complete=1)
        out = recording.out
        # The file is being written: it may be empty, or its last line incomplete.
        wait_until(lambda: out.exists() and '"trade_id\\":300,' in out.read_text(), "the last trade")
        recording.process.send_signal(signal.SIGINT)
        code, message = recording.end()
    assert code == 0
    assert "300 trades, 0 undecodable" in message
    assert ids(recording.out) == list(range(1, 301))
    matches = [json.loads(line["frame"]) for line in recorded(recording.out)]
    prices = [(float(m["price"]), float(m["size"])) for m in matches if m["type"] == "match"]
    with MockExchange(captures=[str(recording.out)], count=300, rate=0) as exchange:
        process = engine.start(engine={"ingest_mode": "MOCK_WS", "ws_url": exchange.url("kraken"), "run_seconds": 0})
        process.heartbeat(lambda fields: fields["ticks_stored"] == 300, after=0)
        process.send(signal.SIGTERM)
        assert process.popen.wait(20) == 0
    run = check_finished(engine.db)
    assert (run["received"], run["rejected"], run["duplicate"]) == (300, 0, 0)
    assert rows(engine.db, "SELECT price, size FROM ticks ORDER BY id") == prices


def test_capture_of_failing_source_exits_10_and_keeps_frames(engine: Launcher) -> None:
    with MockExchange(rate=0, close_after=50) as exchange:
        recording = Recording(engine, exchange.url("coinbase"))
        code, message = recording.end()
    assert code == 10
    assert message.startswith("hybrid-engine: source one: closed by the exchange (code 1001); the ")
    assert ids(recording.out) == list(range(1, 51))


@pytest.mark.parametrize(
    ("command", "message"),
    [("http", "answered HTTP 451: refused on command"), ("silent", "dead: nothing came for 1 s, no pong either")],
)
def test_capture_of_unusable_source_leaves_no_file(engine: Launcher, command: str, message: str) -> None:
    with MockExchange() as exchange:
        exchange.command(command, **({"status": 451} if command == "http" else {"scope": "next"}))
        recording = Recording(engine, exchange.url("coinbase"))
        assert recording.end() == (10, f"hybrid-engine: source one: {message}")
    assert not recording.out.exists()


def test_refused_subscription_fails_the_source(engine: Launcher) -> None:
    refusal = '{"type":"error","message":"Failed to subscribe","reason":"BTC-USD is not a valid product"}'
    requests: list[object] = []

    def refuse(connection: ServerConnection) -> None:
        requests.append(json.loads(connection.recv()))
        connection.send(refusal)
        for _ in connection:
            pass

    with serve(refuse, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        recording = Recording(engine, f"ws://127.0.0.1:{server.socket.getsockname()[1]}/")
        code, message = recording.end()
        server.shutdown()
    assert requests == [{"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches", "heartbeat"]}]
    assert (code, [line["frame"] for line in recorded(recording.out)]) == (10, [refusal])
    assert "refused: Failed to subscribe: BTC-USD is not a valid product" in message


def test_capture_on_full_disk_exits_14_with_whole_lines(engine: Launcher) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_011, 20_011))

    with MockExchange(rate=0, noise=0) as exchange:
        recording = Recording(engine, exchange.url("coinbase"), preexec=limit)
        code, message = recording.end()
    assert code == 14
    assert message.endswith("out.jsonl: cannot be written: File too large")
    # As many lines as fit, however many frames arrived at once.
    assert 20_011 - 600 < recording.out.stat().st_size <= 20_011
    assert ids(recording.out) == list(range(1, len(ids(recording.out)) + 1))


def test_capture_keeps_time_and_overwrites_nothing(engine: Launcher) -> None:
    with MockExchange(rate=50) as exchange:
        recording = Recording(engine, exchange.url("coinbase"), "--seconds", "0.5")
        assert recording.end()[0] == 0
        before = recording.out.read_bytes()
        again = Recording(engine, exchange.url("coinbase"))
        code, message = again.end()
    assert (code, recording.out.read_bytes()) == (12, before)
    assert message == f"hybrid-engine: command line: --out {recording.out}: is there already, and is not overwritten"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"--source": "two"}, '--source "two": there is no such source; there are: one'),
        ({"--seconds": "nan"}, "--seconds nan: must be a number above 0, at most 2592000"),
        ({"--seconds": "0"}, "--seconds 0: must be a number above 0"),
        ({"--seconds": "soon"}, "--seconds soon: must be a number above 0"),
        ({"--out": "no/such/folder/x"}, "--out no/such/folder/x: cannot be created: No such file or directory"),
        ({"--out": "."}, "--out .: is there already"),
        ({"--out": None}, "the following arguments are required: --out"),
        ({"--config": "none.toml"}, "none.toml: "),
    ],
)
def test_capture_usage_error_exits_12(engine: Launcher, changed: dict[str, str | None], message: str) -> None:
    engine.write_sources({"name": "one", "url": "ws://127.0.0.1:1/", "kind": "coinbase"})
    config = engine.write_config({})
    given = {"--config": str(config), "--source": "one", "--seconds": "1", "--out": "x.jsonl", **changed}
    result = engine.command(
        "capture", *[text for pair in given.items() if pair[1] is not None for text in pair if text]
    )
    assert (result.returncode, result.stdout) == (12, "")
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert not (engine.folder / "x.jsonl").exists()


def test_capture_without_sources_exits_12(engine: Launcher) -> None:
    config = engine.write_config({})
    result = engine.command("capture", "--config", str(config), "--source", "one", "--seconds", "1", "--out", "x")
    assert result.returncode == 12
    assert "ws_sources.toml: there is no such file; capture finds its sources there" in result.stderr
