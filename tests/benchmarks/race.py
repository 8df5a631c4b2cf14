"""The engine beside the bare loop and cryptofeed: the same frames, one after the other, in interleaved rounds.

The clock runs from the first frame sent to the last commit, seen by a second reader, which also counts the rows: as
many as frames were sent, or the round is void. The engine runs with its default configuration; only pressure is not
acted upon, since a benchmark is nothing but pressure and thinned-out ticks would be no comparison.
"""

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
from typing import Any

from tests.benchmarks.frames import PATH

HERE = Path(__file__).parent
DEADLINE_S = 180.0
ENGINE, BARE, CRYPTOFEED = "engine", "bare loop", "cryptofeed"


class Void(Exception):
    """A round that shows nothing: frames were lost, or a peer did not come to its end."""


def command(
    peer: str, url: str, database: Path, count: int, cryptofeed: Path | None
) -> tuple[list[str], dict[str, str]]:
    """How a peer is started, and with which variables."""
    if peer == ENGINE:
        words = [sys.executable, "-m", "hybrid_engine", "run", "--ingest", "MOCK_WS", "--ws-url", url]
        return [*words, "--db", str(database)], {"HYBRID_ENGINE__ENGINE__PSI_ACTIONS": "off"}
    if peer == BARE:
        return [sys.executable, str(HERE / "bare_loop.py"), url, str(database), str(count)], {}
    assert cryptofeed is not None
    return [str(cryptofeed), str(HERE / "cryptofeed_peer.py"), url, str(database), str(count)], {}


def once(peer: str, count: int, cryptofeed: Path | None = None) -> dict[str, Any]:
    """One round: {per_second, seconds, rows, cpu_s}. Raises Void."""
    with tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch) / "ticks.db"
        sender = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.sender", str(count), "1", "0"], cwd=HERE.parents[1],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert sender.stdin
        assert sender.stdout
        try:
            url = f"ws://127.0.0.1:{json.loads(sender.stdout.readline())['port']}{PATH}"
            words, variables = command(peer, url, database, count, cryptofeed)
            process = subprocess.Popen(
                words, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                sender.stdout.readline()  # connected
                sender.stdin.write("\n")
                sender.stdin.flush()
                ended_ns = _last_commit(database, count, process)
                first_ns = json.loads(sender.stdout.readline())["first_ns"]
                cpu_s = _cpu_s(process.pid)
            finally:
                process.terminate()
                process.wait(30)
        finally:
            sender.stdin.close()
            sender.wait(30)
            sender.stdout.close()
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
            rows = reader.execute("SELECT COUNT(*), COUNT(DISTINCT exchange_id) FROM ticks").fetchone()
    if rows != (count, count):
        raise Void(f"{peer}: {rows[0]} rows of {rows[1]} trades, {count} were sent")
    seconds = (ended_ns - first_ns) / 1e9
    return {"per_second": count / seconds, "seconds": seconds, "rows": rows[0], "cpu_s": cpu_s}


def _last_commit(database: Path, count: int, process: "subprocess.Popen[bytes]") -> int:
    """When (CLOCK_MONOTONIC, ns) a second reader saw the last row."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
                while time.monotonic() < deadline:
                    if reader.execute("SELECT MAX(id) FROM ticks").fetchone()[0] == count:
                        return time.monotonic_ns()
                    time.sleep(0.002)
        except sqlite3.OperationalError:  # not there yet
            time.sleep(0.01)
    raise Void(f"not every frame was stored within {DEADLINE_S:g} s (exit code so far: {process.poll()})")


def _cpu_s(pid: int) -> float | None:
    """CPU seconds that a process has used; None of one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def race(count: int, rounds: int, cryptofeed: Path | None = None) -> dict[str, Any]:
    """Every peer once a round, in turn: medians, spreads, and the ratios within the rounds.

    A round in which a peer lost a frame is told, counted as void and run again. Raises Void when most of them are.
    """
    peers = [ENGINE, BARE, *([CRYPTOFEED] if cryptofeed else [])]
    found: dict[str, list[float]] = {peer: [] for peer in peers}
    void = 0
    while len(found[ENGINE]) < rounds:
        number = len(found[ENGINE]) + 1
        try:
            rates = {peer: once(peer, count, cryptofeed)["per_second"] for peer in peers[:: 1 if number % 2 else -1]}
        except Void as why:
            print(f"  round {number}/{rounds} void: {why}", flush=True)
            void += 1
            if void > rounds:
                raise
            continue
        for peer in peers:
            found[peer].append(rates[peer])
        told = ", ".join(f"{peer} {rates[peer]:,.0f}" for peer in peers)
        print(f"  round {number}/{rounds} frames/s: {told}", flush=True)
    figures: dict[str, Any] = {
        peer: {"median_per_second": statistics.median(rates), "least": min(rates), "most": max(rates)}
        for peer, rates in found.items()
    }
    for peer in peers[1:]:
        ratios = [mine / theirs for mine, theirs in zip(found[ENGINE], found[peer], strict=True)]
        figures[f"engine : {peer}"] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    return {"frames": count, "rounds": rounds, "void": void, "load": os.getloadavg()[0], **figures}
