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

COUNTERS = ("received", "sampled_out", "dropped", "ticks_stored", "signal_count", "shadow_orders", "risk_vetoes")


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
    message = fields["message"]
    if message in ("HEARTBEAT", "FINAL METRICS"):
        text = "  ".join(f"{name} {fields[name]}" for name in COUNTERS)
        ending = "\n" if message == "FINAL METRICS" or not live else ""
        print(f"{chr(13) if live else ''}{text:<100}", end=ending, flush=True)
    elif message in ("connected", "source failed"):
        print(f"{chr(13) if live else ''}{message}: {fields['source']} {fields.get('reason', '')}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until Ctrl-C or --seconds. Returns the engine's exit code."""
    parser = argparse.ArgumentParser(prog="python -m proofs.demo", description=__doc__)
    parser.add_argument("--rate", type=float, default=200, help="trades a second the exchange sends (default 200)")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long (default: until Ctrl-C)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="hybrid-demo-") as scratch, MockExchange(rate=options.rate) as exchange:
        environment = {
            **os.environ,
            "HYBRID_ENGINE__ENGINE__INGEST_MODE": "MOCK_WS",
            "HYBRID_ENGINE__ENGINE__WS_URL": exchange.url("binance", "btcusdt"),
            "HYBRID_ENGINE__ENGINE__HEARTBEAT_INTERVAL_SECS": "1",
            "HYBRID_ENGINE__ENGINE__RUN_SECONDS": str(options.seconds),
            "HYBRID_ENGINE__APP__DB_PATH": f"{scratch}/demo.db",
        }
        print(f"mock exchange at {exchange.url('binance', 'btcusdt')}, database in {scratch}; Ctrl-C ends it")
        # A process group of its own: Ctrl-C is ours, and we pass it on as the stop that a service gets.
        engine = subprocess.Popen(_engine(), env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
        signal.signal(signal.SIGINT, lambda *_: engine.send_signal(signal.SIGTERM))
        signal.signal(signal.SIGTERM, lambda *_: engine.send_signal(signal.SIGTERM))
        assert engine.stdout is not None
        for line in engine.stdout:
            _show(line, live=sys.stdout.isatty())
        code = engine.wait()
    print(f"engine ended with exit code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
