"""The mock exchange as a child process: start, answers, frozen and dead children, its end with the parent."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import websocket

from proofs.mock_exchange import ControlError, MockExchange, process
from tests.support.exchange_client import Client

ROOT = Path(__file__).resolve().parents[4]


def test_late_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_dead_exchange_raises() -> None:
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


def test_frozen_process_is_silent(exchange: MockExchange) -> None:
    with Client(exchange.url()) as client:
        client.read_until(lambda c: len(c.ids) > 5)
        exchange.kill(signal.SIGSTOP)
        while not client.quiet_for(0.3):
            pass
        with pytest.raises((websocket.WebSocketTimeoutException, TimeoutError, socket.timeout)):
            Client(exchange.url(), timeout=0.3)  # the kernel accepts, the process does not answer
        exchange.kill(signal.SIGCONT)
        client.ws.settimeout(5)
        before = len(client.ids)
        client.read_until(lambda c: len(c.ids) > before)


def test_exchange_ends_with_its_parent() -> None:
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
