"""Takes commands from standard input, one JSON object a line, and answers each with one line on standard output."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from proofs.mock_exchange.commands import CommandError
from proofs.mock_exchange.errors import MockExchangeError
from proofs.mock_exchange.server import Exchange

#: Bytes of a command with its newline; a longer one is refused.
LONGEST_LINE = 65_536

_output = threading.Lock()


def start_control(exchange: Exchange, at_end: Callable[[], object]) -> None:
    """Serve commands until standard input ends, then call `at_end`; call this on the exchange's event loop.

    Lines are read and answers written by a thread of its own; the commands run on the loop, as everything does that
    changes the exchange. The thread reads a line only after it has written the answer to the one before. So whoever
    does not read the answers delays no one but themselves: the loop never waits for standard input or output.
    """
    loop = asyncio.get_running_loop()

    def serve() -> None:
        # OSError: nobody reads the answers any more, or the terminal is another job's. The others: the loop has ended.
        with suppress(OSError, CancelledError, RuntimeError):
            for line in _read_lines():
                write_line(asyncio.run_coroutine_threadsafe(_answer(exchange, line), loop).result())
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(at_end)

    signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # in the background of a terminal it serves on, without commands
    threading.Thread(target=serve, name="control", daemon=True).start()


def write_line(message: Mapping[str, Any]) -> None:
    """Print one JSON line, whole whichever thread prints. Raises OSError when nobody can read it any more."""
    data = json.dumps(message).encode() + b"\n"
    with _output:
        while data:
            data = data[os.write(1, data) :]


def _read_lines() -> Iterator[bytes | None]:
    """The lines of standard input; None for one that is too long."""
    with open(0, "rb", closefd=False) as source:
        while line := source.readline(LONGEST_LINE):
            too_long = False
            while len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                too_long, line = True, source.readline(LONGEST_LINE)
            yield None if too_long else line


async def _answer(exchange: Exchange, line: bytes | None) -> dict[str, Any]:
    try:
        name, args = _parse(line)
        return await exchange.command(name, args)
    except MockExchangeError as error:
        return {"ok": False, "error": str(error)}


def _parse(line: bytes | None) -> tuple[str, dict[str, Any]]:
    if line is None:
        raise CommandError(f"a command of more than {LONGEST_LINE} bytes")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"not JSON: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.get("command"), str):
        raise CommandError('expected {"command": name, ...}')
    return request.pop("command"), request
