"""Whole-process figures of the engine, each beside a peer measured in the same run: start and memory beside a bare
interpreter, throughput beside a bare loop and, where it is installed, cryptofeed.

`make bench` prints them as a table and writes `bench.json`. Machines are noisy: quote medians and ratios. Nothing here
is a test, and no test is timed.
"""

import json
import os
import platform
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from proofs.mock_exchange import MockExchange
from tests.benchmarks.race import race

ENGINE = [sys.executable, "-m", "hybrid_engine", "run"]
RUNS = 7
STEADY_S = 6.0
FRAMES, ROUNDS = 300_000, 5


def seconds(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def bare() -> None:
    """The floor under every start: an interpreter that does nothing."""
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def until_ready(arguments: list[str], directory: Path) -> Callable[[], None]:
    """From exec to READY=1 on the notify socket."""

    def action() -> None:
        address = directory / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(address))
            notify.settimeout(30)
            environment = {**os.environ, "NOTIFY_SOCKET": str(address)}
            process = subprocess.Popen([*ENGINE, *arguments], env=environment, stdout=subprocess.DEVNULL)
            try:
                while b"READY=1" not in notify.recv(4096):
                    pass
            finally:
                process.kill()
                process.wait()
                address.unlink()

    return action


def peak_rss_mb(command: list[str], after_s: float) -> float:
    """VmHWM, in MB (10^6 bytes), of a process that has run for `after_s`. Not ru_maxrss: that remembers the fork."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        status = Path(f"/proc/{process.pid}/status").read_text()
        kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        return kib * 1024 / 1e6
    finally:
        process.terminate()
        process.wait(20)
    raise RuntimeError(f"{command} ended with {process.returncode} before it was measured")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        start = until_ready(["--db", str(directory / "start.db")], directory)
        start()  # the first one writes bytecode and makes the database
        bare_s, ready_s = [], []
        for _ in range(RUNS):  # in turn, so that both see the same machine
            bare_s.append(seconds(bare))
            ready_s.append(seconds(start))
        figures: dict[str, object] = {
            "machine": {"python": platform.python_version(), "cpus": os.cpu_count(), "sqlite": sqlite3.sqlite_version},
            "bare_start_s": statistics.median(bare_s),
            "ready_s": statistics.median(ready_s),
            "ready_over_bare": statistics.median(r / b for r, b in zip(ready_s, bare_s, strict=True)),
            "bare_rss_mb": peak_rss_mb([sys.executable, "-c", "import time; time.sleep(9)"], 0.5),
            "rss_synthetic_mb": peak_rss_mb([*ENGINE, "--db", str(directory / "rss.db")], STEADY_S),
        }
        with MockExchange(count=1_000_000, rate=1000) as exchange:
            url = exchange.url("binance", "btcusdt")
            arguments = ["--ingest", "MOCK_WS", "--ws-url", url, "--db", str(directory / "ws.db")]
            figures["rss_1000_per_s_mb"] = peak_rss_mb([*ENGINE, *arguments], STEADY_S)
    cryptofeed = Path(".venv-bench/bin/python")
    print("from the first frame sent to the last commit, each peer in turn:", flush=True)
    figures["throughput"] = race(FRAMES, ROUNDS, cryptofeed if cryptofeed.exists() else None)
    for key, value in figures.items():
        print(f"{key:<20} {value if not isinstance(value, float) else format(value, '.3f')}")
    Path("bench.json").write_text(json.dumps(figures, indent=2) + "\n")
    print("written: bench.json")


if __name__ == "__main__":
    main()
