"""The accounting balances at every moment of any schedule of input, locks, failures, reloads, stops and kills."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

from tests.support.accounting import TERMS, check_finished, check_snapshot, rows
from tests.support.driven import Driven
from tests.support.process import wait_until

SYMBOLS = ("BTC/USD", "ETH/USD")
numbers = st.none() | st.integers(0, 60)
# Enough to fill every channel, with some duplicates.
PRESSING: list[tuple[str, int | None]] = [(symbol, n if n < 5 else None) for n in range(20) for symbol in SYMBOLS]
floods = st.lists(st.tuples(st.sampled_from(SYMBOLS), numbers), min_size=1, max_size=30)
flood = st.tuples(st.just("flood"), st.sampled_from(("one", "two")), floods, st.integers(1, 3))
steps = st.one_of(
    flood,
    flood,
    flood,
    st.tuples(st.just("reject"), st.sampled_from(("one", "two"))),
    st.tuples(st.just("reload"), st.integers(1, 4), st.sampled_from([0.0, 1.0, 20.0]), st.integers(1, 9)),
    st.tuples(st.just("heartbeat")),
    st.tuples(st.just("hold")),
    st.tuples(st.just("release")),
    st.tuples(st.just("lock")),
    st.tuples(st.just("unlock")),
    st.tuples(st.just("fail"), st.integers(1, 400)),
    st.tuples(st.just("break")),
    st.tuples(st.just("settle")),
    st.tuples(st.just("settle")),
    st.tuples(st.just("look")),
    st.tuples(st.just("stop")),
    st.tuples(st.just("kill")),
)


@pytest.mark.holds("ACCOUNTING", "CHAINS")
# Threads run beside the schedule, so a failure is not shrunk: that could take minutes.
@settings(max_examples=40, phases=[Phase.generate])
@given(
    st.lists(steps, min_size=8, max_size=30),
    st.tuples(st.integers(1, 6), st.integers(2, 5), st.integers(4, 9)),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_accounting_of_any_schedule(
    script: list[tuple[object, ...]], sizes: tuple[int, int, int], sample_every: int, signal_every: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="books-") as folder:
        # Quick retries: the waiting is not what is tested.
        patch.setattr("hybrid_engine.storage.database.TRY_MS", 5)
        patch.setattr("hybrid_engine.stages.persist.HEARTBEAT_S", 0.002)
        patch.setattr("hybrid_engine.pipeline.DRAIN_S", 20.0)
        patch.setattr("hybrid_engine.pipeline.STORE_S", 20.0)
        driven = Driven(Path(folder) / "books.db", sizes, sample_every, signal_every)
        try:
            for step in script:
                play(driven, str(step[0]), *step[1:])
                look(driven)
        finally:
            end(driven)


def play(driven: Driven, what: str, *args: object) -> None:
    """One step of the schedule, while the feeder and the stages run."""
    if what == "flood":
        source, items, times = args
        for _ in range(times):  # type: ignore[call-overload]
            driven.floods.put((source, items))  # type: ignore[arg-type]
    elif what == "reject":
        driven.floods.put((str(args[0]), []))
    elif what == "reload":
        driven.reload(*args)  # type: ignore[arg-type]
    elif what == "heartbeat":
        driven.pipeline.admission.close_gaps(driven.store.run_id)
    elif what == "hold":
        driven.strategy.free.clear()
    elif what == "release":
        driven.strategy.free.set()
    elif what == "lock":
        driven.lock()
        before = driven.pipeline.counters.lock_waits
        driven.floods.put(("one", PRESSING))
        wait_until(lambda: driven.idle or driven.pipeline.counters.lock_waits > before, "a try that meets the lock")
    elif what == "unlock":
        driven.unlock()
    elif what == "fail":
        driven.store.fail_after = args[0]  # type: ignore[assignment]
        driven.floods.put(("two", PRESSING))
        wait_until(lambda: driven.idle or driven.locked or not driven.store.fail_after, "a write that is interrupted")
    elif what == "break":
        driven.strategy.broken.set()
    elif what == "settle":
        wait_until(driven.floods.empty, "the feeder to take what it was handed")
    elif what == "look":
        with closing(sqlite3.connect(f"{driven.db.as_uri()}?mode=ro", uri=True, isolation_level=None)) as con:
            check_snapshot(con, driven.store.run_id)
    elif what == "stop":
        end(driven)
        driven.begin()
    else:
        copy = driven.kill()
        killed = driven.store.run_id
        end(driven)
        driven.db = copy
        driven.begin()
        check_killed(copy, killed)


def look(driven: Driven) -> None:
    """Check what a heartbeat would log at this moment."""
    printed = driven.pipeline.heartbeat_fields()
    assert printed["received"] == sum(int(str(printed[term])) for term in TERMS), printed
    assert int(str(printed["waiting"])) <= driven.settings.channels.tick
    assert printed["tick_count"] == printed["ingest_processed"] == printed["admitted"]


def end(driven: Driven) -> None:
    """Stop, and check the file."""
    run, offered = driven.store.run_id, driven.offered
    locked, broken = driven.locked, driven.strategy.broken.is_set()
    clean = driven.stop()
    assert clean or locked or broken, driven.pipeline.failure
    books, counters, fates = driven.pipeline.admission.snapshot(), driven.pipeline.counters, offered.fates()
    assert books.received == len(offered.log)
    for term in ("rejected", "duplicate", "sampled_out"):
        assert getattr(books, term) == fates[term], (term, books, fates)
    assert books.dropped + books.waiting + books.admitted == fates["passed"], (books, fates)
    if clean:
        row = check_finished(driven.db, run)
        assert {term: row[term] for term in TERMS} == {term: getattr(books, term) for term in TERMS}
    else:
        with closing(sqlite3.connect(driven.db, isolation_level=None)) as con:
            row = check_snapshot(con, run)
        # What is not stored counts as admitted, never as stored.
        assert row["ticks_stored"] == counters.ticks_stored <= books.admitted
    event(f"clean {clean}, lock waits {counters.lock_waits > 0}, failed writes {counters.persist_errors > 0}")
    event(f"dropped {books.dropped > 0}, vetoes {counters.risk_vetoes > 0}")


def check_killed(copy: Path, run: int) -> None:
    """A killed run has whole chains and true counters, and the next start records the crash."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as con:
        row = check_snapshot(con, run)
    assert row["exit_code"] is None
    assert row["ended_ms"] == row["updated_ms"]
    gap = "SELECT from_ms, count FROM gaps WHERE run_id = ? AND kind = 'crash'"
    assert rows(copy, gap, run) == [(row["updated_ms"], None)]
    # No stored tick is inside the gap.
    assert rows(copy, "SELECT id FROM ticks WHERE run_id = ? AND received_ms > ?", run, row["updated_ms"]) == []
    assert wait_until(lambda: rows(copy, "SELECT max(id) FROM runs") == [(run + 1,)], "the next run")
