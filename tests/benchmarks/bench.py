"""Figures of the whole engine process, each beside a peer in the same run where there is one.

`make bench` prints them and writes `bench.json`. Machines are noisy: quote medians and ratios. Nothing here
is a test, and no test measures time. docs/bench.md describes what is measured and how.
"""

import argparse
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.cost import busy_latency, compare
from tests.benchmarks.floor import floor
from tests.benchmarks.race import CRYPTOFEED, ENGINE, ENGINE_RUN, Void, fan_out, race, run_peer, run_rounds
from tests.benchmarks.steady import steady
from tests.benchmarks.usage import memory_mb

STARTS = 9
FRAMES, ROUNDS = 500_000, 5
STEADY_S = 10.0
COST_S = 12.0
SAME_PACE = 1.25  # two floods whose rates differ by less are equally fast
MAX_VOID = 4  # void rounds allowed for each round that counts
SOURCES = (1, 4, 16)
PEER_PYTHON = Path(".venv-bench/bin/python")


def seconds(action: Callable[[], None]) -> float:
    started_at = time.perf_counter()
    action()
    return time.perf_counter() - started_at


def bare() -> None:
    """Start an interpreter that does nothing: the lower bound of every start."""
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def until_ready(arguments: list[str], directory: Path) -> Callable[[], None]:
    """An action that takes from exec to READY=1 on the notify socket."""

    def action() -> None:
        address = directory / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(address))
            notify.settimeout(30)
            environment = {**os.environ, "NOTIFY_SOCKET": str(address)}
            process = subprocess.Popen([*ENGINE_RUN, *arguments], env=environment, stdout=subprocess.DEVNULL)
            try:
                while b"READY=1" not in notify.recv(4096):
                    pass
            finally:
                process.kill()
                process.wait()
                address.unlink()

    return action


def starts() -> dict[str, float]:
    """Seconds from exec to READY=1, with compiled bytecode, and of an interpreter that does nothing."""
    with tempfile.TemporaryDirectory() as name:
        start = until_ready(["--db", str(Path(name) / "start.db")], Path(name))
        start()  # the first start writes bytecode and creates the database
        pairs = [(seconds(bare), seconds(start)) for _ in range(STARTS)]  # alternating: the same conditions
    return {
        "bare_s": statistics.median(b for b, _ in pairs),
        "ready_s": statistics.median(r for _, r in pairs),
        "ready : bare": statistics.median(r / b for b, r in pairs),
    }


def bare_memory_mb() -> float:
    """Peak memory of an interpreter that has loaded the parts of the standard library that the engine needs."""
    code = "import ssl, sqlite3, json, threading, tomllib, dataclasses, urllib.parse, sys; print(); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        result = memory_mb(process.pid, "VmHWM")
        process.kill()
    return result


def latencies(rate: Callable[[], float], rounds: int, seconds: float) -> dict[str, Any]:
    """Latencies at a steady rate: medians of the rounds, and their spread.

    `rate` is called right before and right after each round. Where the results differ by more than SAME_PACE, the speed
    of the machine has changed, and the round is void. Each round also measures the floor: the latency of a process that
    only reads, which is what the machine adds. Raises Void when too few rounds count.
    """
    void_p99: list[float] = []

    def run_round(number: int) -> dict[str, Any]:
        target = rate()
        result = steady(target, seconds)
        after = rate()
        if not 1 / SAME_PACE <= after / target <= SAME_PACE:
            void_p99.append(result["decided_us"]["p99"])
            summary = f"{target:,.0f} frames/s was asked for, and {after:,.0f} after it: another pace"
            raise Void(f"{summary}; decided p99 {void_p99[-1] / 1000:,.2f} ms")
        result["floor_us"] = floor(target, seconds)
        names = ("floor_us", "decided_us", "committed_us")
        summary = ", ".join(f"{name[:-3]} {result[name]['p99'] / 1000:,.2f}" for name in names)
        print(f"  round {number}/{rounds} at {target:,.0f} frames/s, p99 in ms: {summary}", flush=True)
        return result

    result, void = run_rounds(rounds, run_round, MAX_VOID * rounds)

    def of(name: str, figure: str | None = None) -> list[float]:
        return [run[name] if figure is None else run[name][figure] for run in result]

    figures: dict[str, Any] = {
        "rate": statistics.median(of("rate")),
        "rounds": rounds,
        "void": void,
        "void_decided_p99_us": void_p99,
        "seconds": seconds,
    }
    figures |= {name: sum(of(name)) for name in ("sent", "stored", "dropped")}
    figures["sent : rate"] = min(run["sent_per_second"] / run["rate"] for run in result)
    for name in ("floor_us", "decided_us", "committed_us"):
        p99 = of(name, "p99")
        figures[name] = {
            "p50": statistics.median(of(name, "p50")),
            "p99": statistics.median(p99),
            "p99_least": min(p99),
            "p99_most": max(p99),
            "max": max(of(name, "max")),
        }
    figures["peak_mb"] = max(of("peak_mb"))
    return figures | {name: statistics.median(of(name)) for name in ("growth_mb_a_minute", "cpu_share")}


def describe_machine() -> dict[str, Any]:
    result: dict[str, Any] = {
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load": os.getloadavg()[0],
        **{name: version(name) for name in ("hybrid-engine", "msgspec", "websocket-client")},
    }
    if PEER_PYTHON.exists():
        code = "from importlib.metadata import version; print(version('cryptofeed'))"
        summary = subprocess.run([PEER_PYTHON, "-c", code], capture_output=True, text=True, check=True)
        result[CRYPTOFEED] = summary.stdout.strip()
    return result


def print_figures(what: str, figures: object) -> None:
    print(f"\n{what}", flush=True)
    rows = figures.items() if isinstance(figures, dict) else [("", figures)]
    for name, value in rows:
        if isinstance(value, dict):
            value = "  ".join(f"{k} {v:,.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items())
        print(f"  {name:<22} {value:,.3f}" if isinstance(value, float) else f"  {name:<22} {value}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=FRAMES, help="in each round of the race (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each peer, in turn (%(default)s)")
    parser.add_argument("--seconds", type=float, default=STEADY_S, help="of each round at a steady rate (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    args = parser.parse_args()
    result: dict[str, Any] = {"machine": describe_machine()}
    print_figures("the machine", result["machine"])
    result["start"] = starts()
    print_figures("start: exec to READY, seconds", result["start"])
    print("\nthroughput: first frame sent to last commit, each peer in turn", flush=True)
    result["throughput"] = race(args.frames, args.rounds, PEER_PYTHON if PEER_PYTHON.exists() else None)
    print_figures("throughput", result["throughput"])
    result["fan_out"] = {str(n): fan_out(n, args.frames, args.rounds) for n in SOURCES}
    print_figures("fan-out: sources, frames a second in all", result["fan_out"])
    result["bare_memory_mb"] = bare_memory_mb()
    print_figures("the standard library alone, MB", result["bare_memory_mb"])

    def half() -> float:
        # It varies with the machine, so floods right before and after each round measure it.
        flood: float = run_peer(ENGINE, args.frames)["per_second"]
        return flood / 2

    for name, what, rate in (
        ("at_1000", "1,000 frames a second", lambda: 1000.0),
        ("at_half", "half of what a flood took right before and after", half),
    ):
        print(f"\nlatency at {what}, {args.seconds:g} s a round", flush=True)
        try:
            result[name] = latencies(rate, args.rounds, args.seconds)
        except Void as why:
            result[name] = {"INCONCLUSIVE": f"too many rounds were void; the last: {why}"}
        print_figures(what, result[name])
    if PEER_PYTHON.exists():
        print("\ncost: CPU and bytes written a tick, engine and cryptofeed in turn", flush=True)
        for name, slow in (("cost_at_20", 20.0), ("cost_at_1000", 1000.0)):
            result[name] = compare(slow, args.rounds, COST_S, PEER_PYTHON)
            print_figures(f"cost at {slow:,.0f} ticks a second", result[name])
    result["busy"] = busy_latency(args.rounds, args.seconds)
    print_figures("decided p99 at 1,000 a second beside two busy loops, ms", result["busy"])
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten: {args.out}")


if __name__ == "__main__":
    main()
