"""The throughput of the engine, the bare loop and cryptofeed, with the same frames, in interleaved rounds.

The time is that from the first frame sent to the last commit, observed by another reader, which also counts the rows:
if there are not as many as frames, the round is void. The engine runs with its default configuration, but without
throttling under pressure, because a benchmark is pressure and sampled ticks would not be comparable.
"""

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from tests.benchmarks.frames import PATH
from tests.benchmarks.sending import Sender
from tests.benchmarks.usage import cpu_s

HERE = Path(__file__).parent
DEADLINE_S = 180.0
ENGINE_RUN = [sys.executable, "-m", "hybrid_engine", "run"]
ENGINE, BARE, CRYPTOFEED = "engine", "bare loop", "cryptofeed"

T = TypeVar("T")


class Void(Exception):
    """A round without a result: frames were lost, or a peer did not finish."""


def command(
    peer: str, url: str, database: Path, count: int, cryptofeed: Path | None
) -> tuple[list[str], dict[str, str]]:
    """The command line of a peer, and its environment variables."""
    if peer == ENGINE:
        words = [*ENGINE_RUN, "--ingest", "MOCK_WS", "--ws-url", url, "--db", str(database)]
        return words, {"HYBRID_ENGINE__ENGINE__PSI_ACTIONS": "off"}
    if peer == BARE:
        return [sys.executable, str(HERE / "bare_loop.py"), url, str(database), str(count)], {}
    assert cryptofeed is not None
    return [str(cryptofeed), str(HERE / "cryptofeed_peer.py"), url, str(database), str(count)], {}


def run_peer(peer: str, count: int, cryptofeed: Path | None = None) -> dict[str, Any]:
    """One round: {per_second, seconds, rows, cpu_s}. Raises Void."""
    with tempfile.TemporaryDirectory() as scratch, Sender(count) as sender:
        database = Path(scratch) / "ticks.db"
        words, variables = command(peer, f"ws://127.0.0.1:{sender.port}{PATH}", database, count, cryptofeed)
        return run_timed(peer, words, variables, sender, database, count)


def fan_out(sources: int, count: int, rounds: int) -> dict[str, Any]:
    """The engine's figures with `count` frames in total from `sources` sources, each with a symbol of its own."""
    rates, void = run_rounds(rounds, lambda _: [run_fan_out(sources, count)["per_second"]])
    return {**spread([rate for (rate,) in rates]), "void": void}


def run_fan_out(sources: int, count: int) -> dict[str, Any]:
    """One round of the engine with `sources` sources. Raises Void."""
    with tempfile.TemporaryDirectory() as scratch, Sender(count, sources) as sender:
        folder = Path(scratch)
        entries = [
            f'[[source]]\nname = "s{n}"\nkind = "binance"\npriority = {n}\nsymbol = "S{n}USDT"\n'
            f'url = "ws://127.0.0.1:{sender.port}/stream?streams=s{n}usdt@aggTrade"\n'
            for n in range(1, sources + 1)
        ]
        (folder / "ws_sources.toml").write_text("\n".join(entries))
        (folder / "config.toml").write_text('[engine]\ningest_mode = "REAL_WS"\npsi_actions = "off"\n')
        database = folder / "ticks.db"
        words = [*ENGINE_RUN, "--config", str(folder / "config.toml"), "--db", str(database)]
        return run_timed(ENGINE, words, {}, sender, database, count // sources * sources)


def run_timed(
    peer: str, words: list[str], variables: dict[str, str], sender: Sender, database: Path, count: int
) -> dict[str, Any]:
    """Start a peer, let the sender send, and wait for the last commit. Raises Void."""
    process = subprocess.Popen(
        words, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        sender.start()
        ended_ns = _last_commit(database, count, process)
        first_ns = sender.wait_until_sent()["first_ns"]
        used_s = None if process.poll() is not None else cpu_s(process.pid)
    finally:
        process.terminate()
        process.wait(30)
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
        rows = reader.execute("SELECT COUNT(*), COUNT(DISTINCT symbol || exchange_id) FROM ticks").fetchone()
    if rows != (count, count):
        raise Void(f"{peer}: {rows[0]} rows of {rows[1]} trades, {count} were sent")
    seconds = (ended_ns - first_ns) / 1e9
    return {"per_second": count / seconds, "seconds": seconds, "rows": rows[0], "cpu_s": used_s}


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


def run_rounds(rounds: int, run_round: Callable[[int], T], max_void: int | None = None) -> tuple[list[T], int]:
    """Run rounds until `rounds` of them count. Returns their results, and how many were void.

    A void round (for example one in which a peer lost a frame) is reported and repeated. Raises Void when more than
    `max_void` are void (default: as many as `rounds`).
    """
    max_void = rounds if max_void is None else max_void
    result: list[T] = []
    void = 0
    while len(result) < rounds:
        try:
            result.append(run_round(len(result) + 1))
        except Void as why:
            void += 1
            print(f"  round {len(result) + 1}/{rounds} void: {why}", flush=True)
            if void > max_void:
                raise
    return result, void


def spread(rates: list[float]) -> dict[str, float]:
    return {"median_per_second": statistics.median(rates), "least": min(rates), "most": max(rates)}


def race(count: int, rounds: int, cryptofeed: Path | None = None) -> dict[str, Any]:
    """Run every peer once a round: medians, spreads, and the ratios within the rounds. Raises Void."""
    peers = [ENGINE, BARE, *([CRYPTOFEED] if cryptofeed else [])]

    def run_round(number: int) -> list[float]:
        rates = {peer: run_peer(peer, count, cryptofeed)["per_second"] for peer in peers[:: 1 if number % 2 else -1]}
        summary = ", ".join(f"{peer} {rates[peer]:,.0f}" for peer in peers)
        print(f"  round {number}/{rounds} frames/s: {summary}", flush=True)
        return [rates[peer] for peer in peers]

    result, void = run_rounds(rounds, run_round)
    figures: dict[str, Any] = {}
    for peer, rates in zip(peers, zip(*result, strict=True), strict=True):
        figures[peer] = spread(list(rates))
    for at, peer in enumerate(peers[1:], start=1):
        ratios = [rates[0] / rates[at] for rates in result]
        figures[f"engine : {peer}"] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    return {"frames": count, "rounds": rounds, "void": void, "load": os.getloadavg()[0], **figures}
