"""The mock exchange as a process: ready line, answers, scripts, ports, signals, TLS."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import websocket

from proofs.mock_exchange import ControlError, MockExchange, StartError, process
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
def test_a_signal_ends_it_with_its_final_stats(number: int) -> None:
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


def test_a_client_that_does_not_answer_does_not_hold_up_the_end() -> None:
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


def test_an_occupied_port_is_one_line_and_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
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
def test_what_cannot_be_is_one_line_and_code_1(flags: list[str], says: str) -> None:
    done = run(*flags)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert says in done.stderr


def test_help_teaches() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("/v1/marketdata/", "--close-after", "ready", "examples:", "silent", "retry_after", "after_sent"):
        assert word in done.stdout
    assert run("--no-such-flag").returncode == 2


def test_a_script_in_toml_tells_it_what_to_do_when(tmp_path: Path) -> None:
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


def test_a_step_may_come_by_the_clock() -> None:
    with MockExchange(rate=100, do=[{"command": "close", "after_s": 0.3, "code": 4001}]) as exchange:
        with Client(exchange.url()) as client:
            client.read_until(lambda c: False)
        assert client.close_code == 4001


def test_a_late_answer_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with MockExchange(hold=True) as exchange:
        exchange.kill(signal.SIGSTOP)
        monkeypatch.setattr(process, "ANSWER_TIMEOUT", 0.2)
        for command in ("stats", "pause"):
            with pytest.raises(ControlError, match="no answer"):
                exchange.command(command)
        exchange.kill(signal.SIGCONT)
        monkeypatch.undo()
        assert exchange.command("resume")["command"] == "resume"


def test_threads_get_their_own_answers() -> None:
    wrong: list[object] = []

    def ask(name: str) -> None:
        wrong.extend(answer for _ in range(50) if (answer := exchange.command(name)["command"]) != name)

    with MockExchange(hold=True) as exchange:
        threads = [threading.Thread(target=ask, args=[name]) for name in ("pause", "resume", "behave", "stats")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_dead_exchange_does_not_answer() -> None:
    exchange = MockExchange()
    with pytest.raises(ControlError, match="not running"):
        exchange.stats()
    exchange.start()
    exchange.kill()
    for _ in range(2):
        with pytest.raises(ControlError, match="has ended"):
            exchange.stats()
    assert exchange.stop() is None
    with pytest.raises(ControlError, match="not running"):
        exchange.stats()


def test_it_ends_with_its_parent() -> None:
    code = "from proofs.mock_exchange import MockExchange as M; import os; e = M().start(); print(e.pid); os._exit(9)"
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    pid = int(parent.stdout)
    for _ in range(1000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        signal.sigtimedwait([], 0.01)
    pytest.fail(f"the exchange {pid} outlived its parent")


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """A CA, a certificate of its for localhost, and one of a CA nobody knows."""
    paths: dict[str, str] = {}
    for name in ("good", "bad"):
        ca = trustme.CA()
        leaf = ca.issue_cert("localhost")
        paths |= {f"{name}_{part}": str(tmp_path / f"{name}-{part}.pem") for part in ("ca", "cert", "key")}
        ca.cert_pem.write_to_path(paths[f"{name}_ca"])
        leaf.private_key_pem.write_to_path(paths[f"{name}_key"])
        leaf.cert_chain_pems[0].write_to_path(paths[f"{name}_cert"])
    return paths


def test_wss_and_a_certificate_gone_bad_on_command(certificates: dict[str, str]) -> None:
    ca = certificates["good_ca"]
    settings = {"tls_cert": certificates["good_cert"], "tls_key": certificates["good_key"]}
    with MockExchange(count=500, rate=0, close_after=300, **settings) as exchange:
        for kind, ids in (("binance", [*range(1, 301)]), ("gemini_v2", [*range(301, 501)])):
            with Client(exchange.url(kind), ca=ca) as client:
                client.read_until(lambda c: c.ids[-1:] in ([300], [500]))
                assert client.ids == ids
        exchange.command("tls", cert=certificates["bad_cert"], key=certificates["bad_key"])
        accepted = exchange.stats()["accepted"]
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            Client(exchange.url(), ca=ca)
        stats = exchange.stats()
        assert (stats["accepted"], stats["tls_hellos"]) == (accepted, accepted + 1)
        exchange.command("tls", cert=certificates["good_cert"], key=certificates["good_key"])
        Client(exchange.url(), ca=ca).close()


def test_wss_loses_nothing_to_a_slow_client(certificates: dict[str, str]) -> None:
    settings = {"tls_cert": certificates["good_cert"], "tls_key": certificates["good_key"]}
    with MockExchange(count=5000, rate=0, close_after=2500, **settings) as exchange:
        ids: list[int] = []
        for _ in range(2):
            with Client(exchange.url("gemini_v1"), ca=certificates["good_ca"]) as client:
                ids += client.read_until(lambda c: len(c.ids) == 2500, timeout=60.0).ids  # slow on a busy machine too
    assert ids == list(range(1, 5001))
