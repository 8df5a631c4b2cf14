"""The engine at a steady rate: latency, memory and CPU. `python -m tests.benchmarks.steady RATE SECONDS`.

Run it for half an hour (1800 s): the slope of the memory shows whether it grows.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from hybrid_engine.storage.database import open_reader
from tests.benchmarks.frames import PATH
from tests.benchmarks.sending import CHECKOUT, Sender
from tests.benchmarks.usage import cpu_s, memory_mb, slope

WARM_UP_S = 3.0  # caches, the current batch and the first write-ahead log are not growth
LATE_S = 30.0


def steady(rate: float, seconds: float) -> dict[str, Any]:
    """Send frames at `rate` a second on one connection, to an engine with its default configuration. Returns figures;
    latencies are in microseconds from sending the frame."""
    count = int(rate * seconds)
    with tempfile.TemporaryDirectory() as scratch, Sender(count, 1, rate) as sender:
        database, times = Path(scratch) / "ticks.db", Path(scratch) / "times.json"
        url = f"ws://127.0.0.1:{sender.port}{PATH}"
        words = ["run", "--ingest", "MOCK_WS", "--ws-url", url, "--db", str(database)]
        variables = {
            "HYBRID_ENGINE__ENGINE__PSI_ACTIONS": "off",
            "HYBRID_ENGINE__ENGINE__STRATEGY": "tests.benchmarks.clock:timed",
            "HYBRID_BENCH_TIMES": str(times),
        }
        engine = subprocess.Popen(
            [sys.executable, "-m", "hybrid_engine", *words],
            cwd=CHECKOUT,
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
        )
        try:
            sender.start()
            started_at, began_cpu_s = time.monotonic(), cpu_s(engine.pid)
            memory: list[tuple[float, float]] = []
            while (elapsed := time.monotonic() - started_at) < seconds:
                if elapsed >= min(WARM_UP_S, seconds / 2):
                    memory.append((elapsed / 60, memory_mb(engine.pid)))
                time.sleep(min(1.0, seconds / 10))
            sent = sender.wait_until_sent()
            _all_received(database, sent["sent"])
            used_cpu_s, took_s = cpu_s(engine.pid) - began_cpu_s, time.monotonic() - started_at
            peak_mb = memory_mb(engine.pid, "VmHWM")
            engine.send_signal(signal.SIGTERM)
            if (code := engine.wait(30)) != 0:
                raise RuntimeError(f"the engine ended with exit code {code}")
        finally:
            engine.kill()
            engine.wait()
        with closing(open_reader(database)) as reader:
            stored = reader.execute("SELECT COUNT(*) FROM ticks").fetchone()[0]
            dropped = reader.execute("SELECT dropped FROM runs").fetchone()[0]
        result = json.loads(times.read_text())
    sending_s = (sent["last_ns"] - sent["first_ns"]) / 1e9
    return {
        "rate": rate,
        "seconds": seconds,
        "sent": sent["sent"],
        "stored": stored,
        "dropped": dropped,
        "sent_per_second": sent["sent"] / sending_s,
        "decided_us": result["decided_us"],
        "committed_us": result["committed_us"],
        "peak_mb": peak_mb,
        "growth_mb_a_minute": slope(memory),
        "cpu_share": used_cpu_s / took_s,
    }


def _all_received(database: Path, count: int) -> None:
    """Wait until the run's books know of every frame. Raises RuntimeError when that takes longer than LATE_S."""
    deadline = time.monotonic() + LATE_S
    with closing(open_reader(database)) as reader:
        while (received := reader.execute("SELECT received FROM runs").fetchone()[0]) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the engine has received {received} of {count} frames {LATE_S:g} s after the last")
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rate", type=float, help="frames a second")
    parser.add_argument("seconds", type=float)
    args = parser.parse_args()
    print(json.dumps(steady(args.rate, args.seconds), indent=2))


if __name__ == "__main__":
    main()
