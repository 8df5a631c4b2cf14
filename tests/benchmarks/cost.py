"""What a tick costs at the rates that people have: CPU, and bytes written to the disk, in turn with cryptofeed.

`python -m tests.benchmarks.cost [--rounds N] [--seconds S] [--rate R]`. The engine has its defaults, except that it
does not act on pressure. cryptofeed stores the same rows in one transaction each half second. Then the latency at 1,000
a second, alone and beside two busy loops.
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.floor import floor
from tests.benchmarks.frames import PATH
from tests.benchmarks.race import CRYPTOFEED, ENGINE, Void, command, run_rounds
from tests.benchmarks.sending import Sender
from tests.benchmarks.steady import steady
from tests.benchmarks.usage import cpu_s, written_bytes

RATES = (20.0, 1000.0)
COMMIT_S = 0.5  # of cryptofeed
LONGEST_COMMIT_S = 1.0  # of the engine: flush_interval_ms
WARM_UP_S = 3.0
BUSY_LOOPS = 2
PEER_PYTHON = Path(".venv-bench/bin/python")
# On the disk: a file system in memory would count no bytes.
SCRATCH = Path("build")


class Cost(NamedTuple):
    """Of one peer in one round: percent of a core, and bytes written a tick."""

    cpu: float
    written: float


def run_peer(peer: str, rate: float, seconds: float, cryptofeed: Path) -> Cost:
    """One round of a peer. Raises Void where it ended early, or stored too few rows."""
    count = int(rate * (seconds + 2 * WARM_UP_S))
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch, Sender(count, 1, rate) as sender:
        database = Path(scratch).resolve() / "ticks.db"
        words, variables = command(peer, f"ws://127.0.0.1:{sender.port}{PATH}", database, 2 * count, cryptofeed)
        if peer == CRYPTOFEED:
            words.append(str(COMMIT_S))
        process = subprocess.Popen(
            words, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            sender.start()
            time.sleep(WARM_UP_S)
            before = _look(process.pid, database)
            time.sleep(seconds)
            after = _look(process.pid, database)
        except OSError as error:
            raise Void(f"{peer} ended: exit code {process.poll()}") from error
        finally:
            process.terminate()
            process.wait(30)
    took_s, ticks = after[0] - before[0], after[3] - before[3]
    # What waited for a commit at the first look, and at the second.
    if abs(ticks - rate * took_s) > rate * (LONGEST_COMMIT_S + 0.05 * took_s):
        raise Void(f"{peer} stored {ticks} ticks in {took_s:.1f} s at {rate:g} a second")
    return Cost(100 * (after[1] - before[1]) / took_s, (after[2] - before[2]) / ticks)


def _look(pid: int, database: Path) -> tuple[float, float, int, int]:
    """Now, and by now: CPU seconds, bytes written, ticks stored."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
        stored = reader.execute("SELECT max(id) FROM ticks").fetchone()[0] or 0
    return time.monotonic(), cpu_s(pid), written_bytes(pid), stored


def compare(rate: float, rounds: int, seconds: float, cryptofeed: Path) -> dict[str, Any]:
    """The medians of the rounds at that rate, their spread, and the ratio within them. Raises Void."""

    def run_round(number: int) -> dict[str, Cost]:
        peers = (ENGINE, CRYPTOFEED)[:: 1 if number % 2 else -1]
        costs = {peer: run_peer(peer, rate, seconds, cryptofeed) for peer in peers}
        told = ", ".join(f"{peer} {costs[peer].cpu:.1f} % {costs[peer].written:,.0f} bytes" for peer in peers)
        print(f"  round {number}/{rounds} at {rate:g} ticks/s: {told}", flush=True)
        return costs

    result, void = run_rounds(rounds, run_round)
    figures: dict[str, Any] = {"rate": rate, "rounds": rounds, "seconds": seconds, "void": void}
    for peer in (ENGINE, CRYPTOFEED):
        figures[peer] = {
            "cpu_percent": statistics.median(costs[peer].cpu for costs in result),
            "written_a_tick": statistics.median(costs[peer].written for costs in result),
        }
    ratios = [costs[ENGINE].cpu / costs[CRYPTOFEED].cpu for costs in result]
    figures["cpu, engine : cryptofeed"] = {
        "median": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }
    return figures


def busy_latency(rounds: int, seconds: float) -> dict[str, Any]:
    """p99 in ms from sending a frame to the decision, at 1,000 a second: alone, beside busy loops, and the floor."""
    found: dict[str, list[float]] = {"alone": [], "beside busy loops": [], "floor beside busy loops": []}
    for _ in range(rounds):
        found["alone"].append(steady(1000.0, seconds)["decided_us"]["p99"] / 1000)
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY_LOOPS)]
        try:
            found["beside busy loops"].append(steady(1000.0, seconds)["decided_us"]["p99"] / 1000)
            found["floor beside busy loops"].append(floor(1000.0, seconds)["p99"] / 1000)
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
    return {
        name: {"median": statistics.median(p99), "least": min(p99), "most": max(p99)} for name, p99 in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each peer, in turn (%(default)s)")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each round (%(default)s)")
    parser.add_argument("--rate", type=float, action="append", help=f"ticks a second (default: {RATES})")
    args = parser.parse_args()
    for rate in args.rate or RATES:
        print(json.dumps(compare(rate, args.rounds, args.seconds, PEER_PYTHON), indent=2))
    print(json.dumps(busy_latency(args.rounds, args.seconds), indent=2))


if __name__ == "__main__":
    main()
