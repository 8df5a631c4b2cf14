"""The report of a run: its own ticks and trades alone, whatever page they are in, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybrid_engine import cli
from hybrid_engine.domain.accounting import AdmissionCounters, FeedState, StageCounters
from hybrid_engine.domain.events import Order, Signal, Tick, Trade
from hybrid_engine.storage import run_report
from hybrid_engine.storage.run_report import make_report
from hybrid_engine.storage.store import Batch, Store
from tests.support.pipeline import INFO

CAPS = (10000.0, 5000.0)
# (symbol, price, side of the trade that it caused)
FIRST = [("A", 10.0, "BUY"), ("A", 12.0, ""), ("A", 11.0, "SELL")]
SECOND = [("A", 20.0, "BUY"), ("B", 5.0, "SELL"), ("A", 15.0, ""), ("A", 30.0, ""), ("B", 4.0, "")]


def store_run(store: Store, first: int, run: list[tuple[str, float, str]]) -> int:
    store.begin_run(INFO, 1000)
    batch = Batch()
    for number, (symbol, price, side) in enumerate(run, first):
        tick = Tick(number, "s", symbol, price, 1.0, number, 0, 0)
        batch.ticks.append(tick)
        if side:
            batch.signals.append(Signal.of(tick, side, 2.0, "R", 0.5))
            batch.orders.append(Order(number, symbol, side, 2.0, price, "FILLED", "R", "SHADOW", 0))
            batch.trades.append(Trade(number, symbol, side, 2.0, price, 0.5, 0))
    counters = AdmissionCounters(received=len(run), admitted=len(run))
    store.write(batch, counters, StageCounters(), FeedState(last_frame_ms=1), [])
    store.end_run(0, 2000)
    return first + len(run)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "hybrid.db"
    store = Store(path)
    store_run(store, store_run(store, 1, FIRST), SECOND)
    store.begin_run(INFO, 3000)
    store.end_run(0, 3000)
    store.close()
    return path


@pytest.mark.parametrize("page_rows", [1, 2, 1000])
def test_report_is_of_its_run(db: Path, page_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "PAGE_ROWS", page_rows)
    first = make_report(db, 1, "another", CAPS)
    assert (first.ticks, list(first.of_symbols())) == (3, ["A"])
    assert first.of_all()["result"] == 2 * (11.0 - 10.0) - 1.0
    assert first.performance.drawdown == 2.5, "from 3.5 at 12 to 1.0"
    second = make_report(db, 2, "another", CAPS)
    assert (second.ticks, sorted(second.of_symbols())) == (5, ["A", "B"])
    a, b = second.of_symbols()["A"], second.of_symbols()["B"]
    assert (a["net"], a["unrealised"], a["exposure"], a["win_rate"]) == (2.0, 20.0, 60.0, None)
    assert (b["net"], b["unrealised"], b["exposure"]) == (-2.0, 2.0, 8.0)
    assert (second.of_all()["result"], second.of_all()["trades"]) == (20.0 + 2.0 - 1.0, 2)
    empty = make_report(db, None, "another", CAPS)
    assert (empty.run["id"], empty.ticks, empty.of_all()["trades"]) == (3, 0, 0)


def report(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The command's exit status, and what it printed on both streams."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", *words])
    output = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.out, output.err


def test_command_prints_a_table_and_json(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--db", str(db), "--run", "2", "--against", "1")
    code, shown, _ = report(capsys, *words)
    lines = shown.splitlines()
    assert (code, lines[0].startswith("Run 2 (SHADOW, ")) == (0, True)
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["result"] == ["21.0000", "1.0000", "20.0000"], "the comparison comes last"
    code, shown, _ = report(capsys, *words, "--json")
    value = json.loads(shown)
    assert (code, value["version"], value["run"]["id"], value["against"]["run"]["id"]) == (0, 1, 2, 1)
    assert value["total"]["result"] - value["against"]["total"]["result"] == 20.0
    assert "It has no trades." in report(capsys, "--db", str(db))[1]


@pytest.mark.parametrize("words", [["--run", "9"], ["--against", "0"], ["--run", "x"], ["--run", "-1"]])
def test_run_that_is_none_is_refused(db: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, error = report(capsys, "--db", str(db), *words)
    assert (code, shown, error.count("\n")) == (12, "", 1)
    assert error.startswith("hybrid-engine: command line: ")


def test_caps_are_those_of_the_run(db: Path) -> None:
    """They are part of the configuration, of which a run has the digest alone."""
    assert make_report(db, 1, "another", CAPS).caps is None
    assert make_report(db, 1, INFO.config_digest, CAPS).caps == CAPS


@pytest.mark.holds("GROWTH")
def test_run_is_found_among_many_without_reading_them(tmp_path: Path) -> None:
    """By SQLite's instructions: the ends of a run cost the same in a long database as in a short one, nearly."""
    used = []
    for runs in (10, 1000):
        store, number = Store(tmp_path / f"{runs}.db"), 1
        for _ in range(runs):
            number = store_run(store, number, FIRST)
        steps = list[None]()
        store._con.set_progress_handler(lambda steps=steps: steps.append(None), 1)  # type: ignore[misc]
        assert run_report._ends(store._con, runs) == (number - 3, number - 1)
        store._con.set_progress_handler(None, 0)
        used.append(len(steps))
        store.close()
    assert used[1] < 3 * used[0]
