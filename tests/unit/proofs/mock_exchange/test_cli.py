"""The command line: ready and final line, exit codes, errors of one line, help."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

from proofs.mock_exchange import MockExchange, StartError
from tests.support import programs
from tests.support.exchange_client import Client

ROOT = Path(__file__).resolve().parents[4]
COMMAND = [sys.executable, "-m", "proofs.mock_exchange"]


@contextmanager
def running(*flags: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command line's exchange, and its ready line."""
    process = programs.start([*COMMAND, *flags], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *flags], capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_prints_final_stats(number: int) -> None:
    with running("--count", "50", "--rate", "0", "--noise", "0") as (child, ready):
        assert ready["event"] == "ready"
        assert ready["pid"] == child.pid
        with Client(f"ws://127.0.0.1:{ready['port']}/ws/btcusdt@trade") as client:
            client.read_until(lambda c: len(c.ids) == 50)
            child.send_signal(number)
            client.read_until(lambda c: False)
            assert client.close_code == 1001
        out, _ = child.communicate(timeout=10)
        final = json.loads(out)
        assert child.returncode == 0
    assert (final["event"], final["stats"]["sent"], final["stats"]["complete"]) == ("final", 50, True)
    (connection,) = final["stats"]["connections"]
    assert (connection["sent"], connection["open"]) == (50, False)


def test_silent_client_does_not_delay_the_end() -> None:
    with running("--rate", "0") as (child, ready):
        with socket.create_connection(("127.0.0.1", ready["port"])) as raw:
            raw.sendall(
                b"GET /ws/btcusdt@trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert raw.recv(12) == b"HTTP/1.1 101"
            child.send_signal(signal.SIGTERM)
            out, _ = child.communicate(timeout=8)
        assert json.loads(out)["stats"]["sent"] > 0
        assert child.returncode == 0


def test_occupied_port_exits_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        done = run("--port", str(port))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"mock exchange: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        with pytest.raises(StartError, match="cannot listen"):
            MockExchange(port=port).start()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--capture", "/nowhere/x.jsonl"], "/nowhere/x.jsonl: No such file"),
        (["--rate", "-1"], "rate = -1.0: expected"),
        (["--capture", "a", "--seed", "1"], "no seed when captures are played"),
        (["--tls-cert", "/nowhere.pem"], "a certificate and its key"),
        (["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"], "cannot load /nowhere.pem"),
        (["--do", "explode"], "unknown command 'explode'"),
        (["--do", "close now"], "expected name key=value"),
        (["--do", "close after_sent=soon"], "after_sent = 'soon'"),
        (["--script", '{"coutn": 5}'], "unknown setting 'coutn'"),
        (["--script", '{"count": "5"}'], "count = '5': expected int"),
        (["--script", "/nowhere.toml"], "No such file"),
    ],
)
def test_bad_setting_exits_1(flags: list[str], says: str) -> None:
    done = run(*flags)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert says in done.stderr


def test_help_has_paths_flags_and_commands() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("/v1/marketdata/", "--close-after", "ready", "examples:", "silent", "retry_after", "after_sent"):
        assert word in done.stdout
    assert run("--no-such-flag").returncode == 2


def test_script_in_toml(tmp_path: Path) -> None:
    script = tmp_path / "script.toml"
    script.write_text(
        'rate = 0\ncount = 300\nfirst-id = 1001\nnoise = 0\n[[do]]\ncommand = "close"\ncode = 4000\nafter_sent = 100\n'
        '[[do]]\ncommand = "http"\nstatus = 429\nretry_after = 2\nafter_sent = 100\n'
    )
    with running("--script", str(script), "--count", "150") as (_, ready):
        url = f"ws://127.0.0.1:{ready['port']}/ws/btcusdt@aggTrade"
        with Client(url) as client:
            client.read_until(lambda c: False)
            assert (client.ids, client.close_code) == (list(range(1001, 1101)), 4000)
        with pytest.raises(websocket.WebSocketBadStatusException, match="429"):
            Client(url)
        with Client(url) as again:
            again.read_until(lambda c: len(c.ids) == 50)
        assert again.ids == list(range(1101, 1151))
