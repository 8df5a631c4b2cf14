"""The mock exchange's control: JSON lines on standard input, answers on standard output."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proofs.mock_exchange import MockExchange
from proofs.mock_exchange.__main__ import LONGEST_LINE
from tests.support.exchange_client import Client

ROOT = Path(__file__).resolve().parents[4]
COMMAND = [sys.executable, "-m", "proofs.mock_exchange"]


class Child:
    """An exchange by the command line, with its standard input and output in the test's hands."""

    def __init__(self, *flags: str, stdin: Any = subprocess.PIPE) -> None:
        pipe = subprocess.PIPE
        argv = [*COMMAND, *flags]
        self.process = subprocess.Popen(argv, stdin=stdin, stdout=pipe, stderr=pipe, cwd=ROOT, bufsize=0)
        self.ready = self.read()

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 20)[0], "no answer"
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def ask(self, line: str) -> dict[str, Any]:
        self.write(line.encode() + b"\n")
        return self.read()


@contextmanager
def running(*flags: str, stdin: Any = subprocess.PIPE) -> Iterator[Child]:
    child = Child("--hold", *flags, stdin=stdin)
    try:
        yield child
    finally:
        child.process.kill()
        child.process.communicate()


def test_each_command_is_answered_with_one_line() -> None:
    with running() as child:
        assert child.ask('{"command": "stats", "brief": true}')["stats"]["paused"] is True
        assert child.ask('{"command": "resume"}').keys() == {"ok", "command", "at_ms", "mono_ns"}
        assert child.ask('{"command": "stats"}')["stats"]["connections"] == []
        child.write(b'{"command": "pause"}\n{"command": "resume"}\n')
        assert [child.read()["command"] for _ in range(2)] == ["pause", "resume"]
        child.process.terminate()
        output, errors = child.process.communicate(timeout=10)
    final = json.loads(output)
    assert (final["event"], final["stats"]["paused"], errors) == ("final", False, b"")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", "not JSON"),
        ("close", "not JSON"),
        ("[" * 50_000, "not JSON"),
        ("9" * 5_000, "not JSON"),
        ("\udcff", "not JSON"),
        ("[]", "expected {"),
        ("{}", "expected {"),
        ('{"command": 3}', "expected {"),
        ('{"command": "' + "x" * LONGEST_LINE + '"}', f"more than {LONGEST_LINE} bytes"),
        ('{"command": "explode"}', "unknown command 'explode'"),
        ('{"command": "rate", "rate": NaN}', "expected a finite number"),
        ('{"command": "rate", "rate": ' + "9" * 400 + "}", "expected a finite number"),
    ],
    ids=range(12),
)
def test_a_bad_line_is_answered_with_one_error_line(line: str, error: str) -> None:
    with running() as child:
        child.write(line.encode(errors="surrogateescape") + b"\n")
        answer = child.read()
        assert (answer["ok"], error in answer["error"]) == (False, True), answer["error"][:200]
        assert child.ask('{"command": "pause"}')["ok"]
        child.process.terminate()
        assert child.process.communicate(timeout=10)[1] == b""


def test_unread_answers_delay_commands_alone() -> None:
    with running("--rate", "100") as child, Client(f"ws://127.0.0.1:{child.ready['port']}/ws/btcusdt@trade") as client:
        child.write(b'{"command": "resume"}\n')
        assert child.process.stdin is not None
        stdin = child.process.stdin.fileno()
        while select.select([], [stdin], [], 0.5)[1]:
            os.write(stdin, b'{"command": "stats"}\n')
        client.read_until(lambda c: len(c.ids) == 100)
        deadline = time.monotonic() + 10
        while child.process.poll() is None:  # the first waits with the final line for its reader, another ends that
            assert time.monotonic() < deadline
            child.process.terminate()
            time.sleep(0.05)


def test_without_the_flag_the_end_of_stdin_ends_nothing() -> None:
    for stdin in (subprocess.DEVNULL, subprocess.PIPE):
        with running(stdin=stdin) as child:
            if child.process.stdin:
                child.process.stdin.close()
                child.process.stdin = None
            with Client(f"ws://127.0.0.1:{child.ready['port']}/ws/btcusdt@trade", timeout=5) as client:
                client.ws.ping("anybody")
                assert client.ws.recv_data(control_frame=True)[1] == b"anybody"


def test_with_the_flag_the_end_of_stdin_ends_it() -> None:
    with running("--until-stdin-closes") as child:
        output, errors = child.process.communicate(input=b'{"command": "pause"}', timeout=10)
        lines = [json.loads(line) for line in output.splitlines()]
        assert ([line.get("command") for line in lines], child.process.returncode, errors) == (["pause", None], 0, b"")


def test_commands_can_be_typed_at_a_terminal() -> None:
    keyboard, terminal = pty.openpty()
    try:
        with running(stdin=terminal) as child:
            os.write(keyboard, b'{"command": "resume"}\n')
            assert child.read()["command"] == "resume"
    finally:
        os.close(keyboard)
        os.close(terminal)


def test_it_serves_in_the_background_of_a_terminal() -> None:
    """A job in the background that reads its terminal would be stopped: it serves on without commands."""
    code = (
        "import os, json, subprocess, sys, signal\n"
        f"child = subprocess.Popen({COMMAND!r}, stdout=subprocess.PIPE, process_group=0)\n"
        "port = json.loads(child.stdout.readline())['port']\n"
        "from proofs.mock_exchange.process import PATHS\n"
        "from tests.support.exchange_client import Client\n"
        "client = Client(f'ws://127.0.0.1:{port}/ws/btcusdt@trade', timeout=5)\n"
        "client.read_until(lambda c: len(c.ids) > 3)\n"
        "child.terminate()\n"
        "print('ended', child.wait(10))\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", code])
    output = b""
    while chunk := _read(terminal):
        output += chunk
    os.close(terminal)
    os.waitpid(pid, 0)
    assert b"ended 0" in output, output.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # nobody has it open any more
        return b""


def test_an_exchange_without_a_terminal_is_not_shared() -> None:
    with MockExchange(hold=True) as one, MockExchange() as two:
        one.command("rate", rate=7)
        assert (one.stats()["rate"], two.stats()["rate"], two.ready["control"]) == (7, 100, "stdin")
