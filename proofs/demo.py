"""`make demo`: runs the engine against a mock exchange on loopback and shows a live line of counters, without root.

It uses the engine as an operator does: its command, its configuration by environment, its log lines. It leaves nothing
behind.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from proofs.mock_exchange import MockExchange

# Counter -> its word in the live line, which is short: a line wider than the terminal cannot be overwritten.
COUNTERS = {
    "received": "received",
    "ticks_stored": "stored",
    "signal_count": "signals",
    "shadow_orders": "orders",
    "risk_vetoes": "vetoes",
    "dropped": "dropped",
    "sampled_out": "sampled",
}
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Demo:
    """The engine's process, and whether a stop was requested.

    Ctrl-C reaches the demo alone, because the engine and the exchange are in sessions of their own: the engine gets the
    SIGTERM that a service gets, while its exchange goes on.
    """

    def __init__(self) -> None:
        self._stop_requested = False
        self._engine: subprocess.Popen[str] | None = None

    def request_stop(self, *_signal: object) -> None:
        self._stop_requested = True
        if self._engine:
            self._engine.terminate()

    def run(self, environment: dict[str, str]) -> int:
        """Show the engine's log until it ends. Returns its exit code; 0 when a stop was requested before it started."""
        if self._stop_requested:
            return 0
        argv, pipe = _engine(), subprocess.PIPE
        self._engine = engine = subprocess.Popen(argv, env=environment, stdout=pipe, text=True, start_new_session=True)
        if self._stop_requested:  # between the check and the assignment
            engine.terminate()
        try:
            for line in engine.stdout or ():
                _show(line, live=sys.stdout.isatty())
        except OSError:  # the terminal is gone
            engine.terminate()
        code = engine.wait()
        return 0 if self._stop_requested and -code in _STOP_SIGNALS else code  # stopped before it had its handler


def _engine() -> list[str]:
    beside = Path(sys.executable).with_name("hybrid-engine")
    command = str(beside) if beside.exists() else shutil.which("hybrid-engine")
    if command is None:
        raise SystemExit("demo: the command hybrid-engine was not found; run `make setup` first")
    return [command, "run"]


def _show(line: str, live: bool) -> None:
    try:
        fields = json.loads(line)["fields"]
    except (ValueError, KeyError):
        print(line, end="")
        return
    message, width = fields["message"], shutil.get_terminal_size().columns - 3  # the rest is for ^C
    clear = f"\r{'':<{width}}\r" if live else ""
    if message in ("HEARTBEAT", "FINAL METRICS"):
        text = "  ".join(f"{word} {fields[name]}" for name, word in COUNTERS.items())
        permanent = message == "FINAL METRICS" or not live
        print(f"{clear}{text if permanent else text[:width]}", end="\n" if permanent else "", flush=True)
    elif message in ("connected", "source failed"):
        print(f"{clear}{message}: {fields['source']} {fields.get('reason', '')}".rstrip(" "))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until Ctrl-C or --seconds. Returns the engine's exit code."""
    parser = argparse.ArgumentParser(prog="python -m proofs.demo", description=__doc__)
    parser.add_argument("--rate", type=float, default=200, help="trades a second the exchange sends (default 200)")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long (default: until Ctrl-C)")
    options = parser.parse_args(arguments)
    demo = Demo()
    for number in _STOP_SIGNALS:
        signal.signal(number, demo.request_stop)
    with tempfile.TemporaryDirectory(prefix="hybrid-demo-") as scratch, MockExchange(rate=options.rate) as exchange:
        print(f"mock exchange at {exchange.url('binance', 'btcusdt')}, database in {scratch}; Ctrl-C ends it")
        environment = {
            **os.environ,
            "HYBRID_ENGINE__ENGINE__INGEST_MODE": "MOCK_WS",
            "HYBRID_ENGINE__ENGINE__WS_URL": exchange.url("binance", "btcusdt"),
            "HYBRID_ENGINE__ENGINE__HEARTBEAT_INTERVAL_SECS": "1",
            "HYBRID_ENGINE__ENGINE__RUN_SECONDS": str(options.seconds),
            "HYBRID_ENGINE__APP__DB_PATH": f"{scratch}/demo.db",
        }
        code = demo.run(environment)
    print(f"engine ended with exit code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
