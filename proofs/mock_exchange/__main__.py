"""`python -m proofs.mock_exchange`: settings as flags, commands on standard input, exit codes."""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, get_args

from proofs.mock_exchange.commands import CommandError, Steps, carry_out, commands_help
from proofs.mock_exchange.errors import MockExchangeError
from proofs.mock_exchange.server import Exchange
from proofs.mock_exchange.settings import FIELDS, TYPES, Settings, SettingsError, from_mapping, read_script

#: Bytes of a command with its newline; a longer one is refused.
LONGEST_LINE = 65_536
_output = threading.Lock()

HELP = """\
A mock exchange on one port of the loopback: Binance spot, Gemini, Coinbase, Kraken, told apart by path.

  /ws/btcusdt@trade   /ws/btcusdt@aggTrade   several joined by /      Binance, raw
  /stream?streams=btcusdt@trade/ethusdt@aggTrade                      Binance, combined
  /v1/marketdata/btcusd?heartbeat=true&bids=true&offers=true&trades=true
  /v2/marketdata      then {"type":"subscribe","subscriptions":[{"name":"l2","symbols":["BTCUSD"]}]}
  /gemini             then {"id":"1","method":"subscribe","params":["btcusd@trade"]}
  /coinbase           then {"type":"subscribe","product_ids":["BTC-USD"],"channels":["matches","heartbeat"]}
  /v2                 then {"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"]}}      Kraken

It plays recorded trades (or generated ones) among real noise, numbered 1, 2, 3 ... across all connections: the
number is the trade's id (Binance t or a; Gemini v1 tid, v2 event_id, now t; Coinbase and Kraken trade_id). A client
that reconnects gets the next number; none is sent twice or left out, except by command. A trade counts as sent once
the kernel has taken it for a socket that was open. --capture plays, in laps and on every protocol, a file recorded by
`hybrid-engine capture`.

The first line on stdout is {"event":"ready","port":...}. After that it takes commands from stdin, one JSON object a
line: {"command":"close","code":1012}. Each is answered with one line: {"ok":true,...}, or {"ok":false,"error":...}.
SIGTERM ends it, with a last line {"event":"final","stats":{...}}. Exit codes: 0 stopped by a signal or by the end of
stdin, 1 cannot start (one line says why), 2 usage.
"""

EPILOG = """\
examples:
  python -m proofs.mock_exchange --port 9001 --rate 50
  python -m proofs.mock_exchange --count 2003 --rate 0 --close-after 1007 --close-times 1
  python -m proofs.mock_exchange --capture frames.jsonl --speed 10
  python -m proofs.mock_exchange --do 'http status=451 times=3' --do 'close after_sent=100'
while it runs, typed or written to its stdin:
  {"command": "stats", "brief": true}
  {"command": "silent", "what": "trades"}
"""


def build_parser() -> argparse.ArgumentParser:
    """One flag a setting; without it the script's value counts, or the default."""
    parser = argparse.ArgumentParser(
        prog="python -m proofs.mock_exchange",
        description=HELP,
        epilog=EPILOG + "\n" + commands_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--script", metavar="FILE", help="TOML or JSON with these settings and [[do]] tables")
    for name, field in FIELDS.items():
        option, kind = dict(field.metadata), TYPES[name]
        flag = "--" + option.pop("flag", name).replace("_", "-")
        if kind is bool:
            option["action"] = "store_true"
        elif field.default == ():
            option |= {"action": "append", "dest": name}
        else:
            option["type"] = next(iter(get_args(kind)), kind)
            if field.default is not None:
                option["help"] += f" ({field.default})"
        parser.add_argument(flag, **option)
    return parser


def parse_command(text: str) -> dict[str, Any]:
    """`name key=value ...` as a table; numbers and true/false/null are read as such."""
    name, *pairs = text.split()
    command: dict[str, Any] = {"command": name}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"{text!r}: expected name key=value ..., not {pair!r}")
        try:
            command[key] = json.loads(value)
        except ValueError:
            command[key] = value
    return command


def read_settings(argv: Sequence[str]) -> Settings:
    options = vars(build_parser().parse_args(argv))
    values = read_script(options.pop("script")) if "script" in options else {}
    if "do" in options:
        options["do"] = [parse_command(text) for text in options["do"] if text.strip()]
    return from_mapping({**values, **options})


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; returns the exit code."""
    try:
        stats = asyncio.run(_serve(read_settings(sys.argv[1:] if argv is None else argv)))
    except MockExchangeError as error:
        print(f"mock exchange: {error}", file=sys.stderr)
        return 1
    with suppress(BrokenPipeError):
        write_line({"event": "final", "stats": stats})
    return 0


async def _serve(settings: Settings) -> dict[str, Any]:
    """Serve until a signal or the end of standard input; returns the final stats."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    exchange = Exchange(settings)
    steps = Steps(exchange, settings.do)
    async with exchange:
        await steps.start()
        ready = {"host": settings.host, "port": exchange.port, "control": "stdin", "pid": os.getpid()}
        write_line({"event": "ready", **ready, "tls": settings.tls_cert is not None})
        start_control(exchange, stop.set if settings.until_stdin_closes else lambda: None)
        await stop.wait()
    return exchange.stats()


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
        return await carry_out(exchange, name, args)
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


if __name__ == "__main__":
    sys.exit(main())
