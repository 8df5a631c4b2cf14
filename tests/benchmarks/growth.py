"""Compares a store with 10 million ticks with an empty one: `python -m tests.benchmarks.growth`.

It measures commits as persist makes them (`Store.write`, batches of 100 ticks, each tenth with its signal, order and
trade), starts (exec to READY) and `hybrid-engine health`, on a fresh database and on the grown one in alternation, so
that the machine's noise affects both. Results are medians and their ratio; the ratios of the pairs show the noise.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hybrid_engine.domain.accounting import AdmissionCounters, FeedState, Gap, StageCounters
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.storage.retention import DAY_MS
from hybrid_engine.storage.store import Batch, Store
from tests.support.pipeline import INFO
from tests.support.process import as_toml, clean_environment
from tests.support.rows import chains

EVERY = 10
BATCH = 100
# The first commits after opening a database fill the cache: a few ms, more with a large store.
WARM_UP_TICKS = 10_000
ENGINE = [sys.executable, "-m", "hybrid_engine"]


def grow(path: Path, ticks: int) -> None:
    """Write a month with `ticks` ticks and a gap for each hundredth of them, all of a run that ended."""
    store = Store(path)
    start = now_ms() - 30 * DAY_MS
    store.begin_run(INFO, start)
    part = 20_000
    for first in range(1, ticks, part):
        at_ms = start + 29 * DAY_MS * first // ticks
        numbers = range(first // 100, (first + part) // 100)
        gaps = [Gap(n + 1, "sampled_out", "s", "X", at_ms, at_ms, 9) for n in numbers]
        counters = AdmissionCounters(received=first, admitted=first)
        store.write(
            chains(first, min(part, ticks - first + 1), at_ms, at_ms, EVERY),
            counters,
            StageCounters(),
            FeedState(),
            gaps,
        )
    store.end_run(0, now_ms())
    store.close()


def insert_rate(path: Path, ticks: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Ticks that a warm store commits in a second of `clock`, without the time to create them."""
    store = Store(path)
    store.begin_run(INFO, now_ms())
    first, at_ms = store.first_ids[0], now_ms()
    batches = [chains(first + n, BATCH, at_ms, at_ms, EVERY) for n in range(0, WARM_UP_TICKS + ticks, BATCH)]
    _commit(store, batches[: WARM_UP_TICKS // BATCH])
    start = clock()
    _commit(store, batches[WARM_UP_TICKS // BATCH :])
    took = clock() - start
    store.end_run(0, now_ms())
    store.close()
    return ticks / took


def _commit(store: Store, batches: Sequence[Batch]) -> None:
    for batch in batches:
        store.write(batch, AdmissionCounters(), StageCounters(), FeedState(), ())


def write_config(path: Path) -> Path:
    config = path.with_suffix(".toml")
    settings = {"ingest_mode": "SYNTHETIC", "heartbeat_interval_secs": 3600}
    config.write_text(as_toml({"app": {"db_path": str(path)}, "engine": settings}))
    return config


def start_s(path: Path) -> float:
    """Seconds from exec to the log line `ready`."""
    config = write_config(path)
    start = time.perf_counter()
    process = subprocess.Popen(
        [*ENGINE, "run", "--config", str(config)], stdout=subprocess.PIPE, text=True, env=clean_environment()
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["fields"]["message"] == "ready":
            break
    took = time.perf_counter() - start
    process.terminate()
    process.communicate()
    return took


def health_s(path: Path) -> float:
    """Seconds of the whole command. It reports that no engine runs, which takes as long."""
    config = write_config(path)
    start = time.perf_counter()
    subprocess.run([*ENGINE, "health", "--config", str(config)], stdout=subprocess.DEVNULL, env=clean_environment())
    return time.perf_counter() - start


def compare_pairs(
    measure: Callable[[Path], float], small: Callable[[], Path], large: Path, count: int
) -> dict[str, float]:
    """Medians on fresh databases and on the grown one, alternating; `ratio` is the median of the pairs' ratios."""
    measure(small())  # warm up
    measure(large)
    fresh: list[float] = []
    grown: list[float] = []
    for number in range(count):
        for path, results in [(small(), fresh), (large, grown)][:: 1 if number % 2 else -1]:
            results.append(measure(path))
    ratios = sorted(one / other for one, other in zip(grown, fresh, strict=True))
    names = ("fresh", "grown", "ratio", "least_ratio", "greatest_ratio")
    return dict(zip(names, (*map(statistics.median, (fresh, grown, ratios)), ratios[0], ratios[-1]), strict=True))


def slices_ms(path: Path, count: int) -> dict[str, float]:
    """Milliseconds that a slice of retention takes on the grown database."""
    store = Store(path)
    store.begin_run(INFO, now_ms())
    results = []
    for _ in range(count):
        start = time.perf_counter()
        deleted = store.delete_expired(15.0)
        results.append((time.perf_counter() - start) * 1000)
        assert deleted.more, "nothing old is left"
    store.end_run(0, now_ms())
    store.close()
    results.sort()
    return {"median": statistics.median(results), "p99": results[len(results) * 99 // 100], "max": results[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticks", type=int, default=10_000_000, help="ticks in the grown database (%(default)s)")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--insert", type=int, default=50_000, help="ticks for each measurement of the insert rate")
    parser.add_argument("--folder", help="directory of the databases; about 150 bytes a tick")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="growth-", dir=args.folder) as folder:
        large = Path(folder) / "grown.db"
        start = time.perf_counter()
        grow(large, args.ticks)
        os.sync()  # its pending writes must not disturb the measurements
        print(f"{args.ticks} ticks, {large.stat().st_size / 1e6:.0f} MB, in {time.perf_counter() - start:.0f} s")
        created = iter(range(10**6))

        def fresh() -> Path:
            path = Path(folder) / f"fresh{next(created)}.db"
            Store(path).close()
            return path

        result: dict[str, object] = {"ticks": args.ticks, "bytes": large.stat().st_size}
        measurements: dict[str, Callable[[Path], float]] = {
            "insert_ticks_s": lambda path: insert_rate(path, args.insert),
            "insert_ticks_cpu_s": lambda path: insert_rate(path, args.insert, time.process_time),
            "start_s": start_s,
            "health_s": health_s,
        }
        for name, measure in measurements.items():
            results = compare_pairs(measure, fresh, large, args.pairs)
            result[name] = results
            print(f"{name:<18}", "  ".join(f"{key} {value:.4g}" for key, value in results.items()), flush=True)
        result["retention_slice_ms"] = slices_ms(large, min(300, args.ticks // 4000))
        print("retention slice of 1000 ticks, ms:", result["retention_slice_ms"])
        print(json.dumps(result))


if __name__ == "__main__":
    main()
