"""`make demo`: the engine and a mock exchange on loopback, a live line of counters; no root, nothing left behind.

It knows the engine as an operator does: its command, its configuration by environment, its log lines.
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

# Counter -> what the line calls it: a line that is longer than the terminal is wide cannot be written over.
COUNTERS = {
    "received": "received", "ticks_stored": "stored", "signal_count": "signals", "shadow_orders": "orders",
    "risk_vetoes": "vetoes", "dropped": "dropped", "sampled_out": "sampled",
}  # fmt: skip
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Demo:
    """The engine's process, and whether somebody asked for its end. Ctrl-C is ours: the engine and the exchange are in
    sessions of their own, and the engine gets the stop that a service gets, while its exchange goes on."""

    def __init__(self) -> None:
        self._asked = False
        self._engine: subprocess.Popen[str] | None = None

    def ask(self, *_signal: object) -> None:
        self._asked = True
        if self._engine:
            self._engine.terminate()

    def run(self, environment: dict[str, str]) -> int:
        """Show what the engine says until it ends. Returns its exit code; 0 when it was not wanted any more."""
        if self._asked:
            return 0
        self._engine = subprocess.Popen(
            _engine(), env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        if self._asked:  # between the look and the name
            self._engine.terminate()
        try:
            assert self._engine.stdout is not None
            for line in self._engine.stdout:
                _show(line, live=sys.stdout.isatty())
        except OSError:  # the terminal is gone
            self._engine.terminate()
        code = self._engine.wait()
        return 0 if self._asked and -code in _STOPS else code  # asked before it could answer, or had a session


def _engine() -> list[str]:
    beside = Path(sys.executable).with_name("hybrid-engine")
    found = str(beside) if beside.exists() else shutil.which("hybrid-engine")
    if found is None:
        raise SystemExit("demo: the command hybrid-engine was not found; run `make setup` first")
    return [found, "run"]


def _show(line: str, live: bool) -> None:
    try:
        fields = json.loads(line)["fields"]
    except (ValueError, KeyError):
        print(line, end="")
        return
    message, width = fields["message"], shutil.get_terminal_size().columns - 3  # the last are for ^C
    before = f"\r{'':<{width}}\r" if live else ""
    if message in ("HEARTBEAT", "FINAL METRICS"):
        text = "  ".join(f"{word} {fields[name]}" for name, word in COUNTERS.items())
        lasting = message == "FINAL METRICS" or not live
        print(f"{before}{text if lasting else text[:width]}", end="\n" if lasting else "", flush=True)
    elif message in ("connected", "source failed"):
        print(f"{before}{message}: {fields['source']} {fields.get('reason', '')}".rstrip(" "))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until Ctrl-C or --seconds. Returns the engine's exit code."""
    parser = argparse.ArgumentParser(prog="python -m proofs.demo", description=__doc__)
    parser.add_argument("--rate", type=float, default=200, help="trades a second the exchange sends (default 200)")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long (default: until Ctrl-C)")
    options = parser.parse_args(arguments)
    demo = Demo()
    for number in _STOPS:
        signal.signal(number, demo.ask)
    with tempfile.TemporaryDirectory(prefix="hybrid-demo-") as scratch, MockExchange(rate=options.rate) as exchange:
        print(f"mock exchange at {exchange.url('binance', 'btcusdt')}, database in {scratch}; Ctrl-C ends it")
        code = demo.run({
            **os.environ,
            "HYBRID_ENGINE__ENGINE__INGEST_MODE": "MOCK_WS",
            "HYBRID_ENGINE__ENGINE__WS_URL": exchange.url("binance", "btcusdt"),
            "HYBRID_ENGINE__ENGINE__HEARTBEAT_INTERVAL_SECS": "1",
            "HYBRID_ENGINE__ENGINE__RUN_SECONDS": str(options.seconds),
            "HYBRID_ENGINE__APP__DB_PATH": f"{scratch}/demo.db",
        })  # fmt: skip
    print(f"engine ended with exit code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
