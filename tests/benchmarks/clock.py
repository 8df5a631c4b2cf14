"""A strategy that measures latencies: `engine.strategy = "tests.benchmarks.clock:timed"`.

The frames carry the CLOCK_MONOTONIC time at which they were sent as the trade's id. This is the periodic strategy;
recorded are the times from there until the shadow adapter has executed the order, and until the rows are committed,
without cost for ticks that cause nothing. At its end the process writes the figures of both to the file that
HYBRID_BENCH_TIMES names: {decided_us, committed_us}.
"""

import atexit
import json
import os
import time
from pathlib import Path
from typing import Any

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.events import Signal, Tick
from hybrid_engine.stages.adapter import Execution, FillAtLast
from hybrid_engine.stages.strategy import Periodic
from hybrid_engine.storage.store import Batch, Store
from tests.benchmarks.sample import Sample

_decided, _committed = Sample(), Sample()  # microseconds
_sent_ns: dict[int, int] = {}  # of ticks whose order is being executed
_of, _execute, _write = Signal.of, FillAtLast.execute, Store.write


def signal_of(tick: Tick, *rest: Any, **named: Any) -> Signal:
    if tick.exchange_id is not None:
        _sent_ns[tick.id] = tick.exchange_id
    return _of(tick, *rest, **named)


def execute(adapter: FillAtLast, signal: Signal, price: float) -> Execution:
    execution = _execute(adapter, signal, price)
    _decided.add((time.monotonic_ns() - _sent_ns.pop(signal.id)) // 1000)
    return execution


def write(store: Store, batch: Batch, *rest: Any) -> None:
    _write(store, batch, *rest)
    now = time.monotonic_ns()
    for tick in batch.ticks[:: len(batch.ticks) // 4 + 1]:
        _committed.add((now - (tick.exchange_id or now)) // 1000)


def _write_figures() -> None:
    result = {"decided_us": _decided.figures(), "committed_us": _committed.figures()}
    Path(os.environ["HYBRID_BENCH_TIMES"]).write_text(json.dumps(result))


def timed(settings: EngineSettings) -> Periodic:
    Signal.of = signal_of  # type: ignore[method-assign]
    FillAtLast.execute = execute  # type: ignore[assignment, method-assign]
    Store.write = write  # type: ignore[assignment, method-assign]
    atexit.register(_write_figures)
    return Periodic(settings.signal_every_n_ticks)
