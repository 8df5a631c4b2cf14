"""crash: what its figures come to, each wrong in turn; and what counts as a broken chain."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import crash
from proofs.host.database import Store, torn_chains
from tests.support.judging import DEPLOYED, judge_with, verdict_of

KILLS = 3
GOOD: dict[str, Any] = {
    "n": 3,
    "seed": 7,
    "sent": 900,
    "stored": 850,
    "lost": [20, 0, 30, 0],
    "killed_ms": [1000, 2000, 3000],
    "crash_gaps": [[900, 1200], [1990, 2300], [3020, 3400]],
    "late_ms": [3, 60, 12],
    "booked": True,
    "balance": True,
    "torn": [],
    "broken_references": 0,
    "integrity": "ok",
    "kept": True,
    "other_ends": [],
    "rows": {
        "compared": 850,
        "difference": "",
        "sources": {"mock": {"stored": 850, "missing": 0}},
        "signals": 1,
        "chains": "",
    },
}


def case() -> crash.Killed:
    return crash.Killed(DEPLOYED, KILLS)


def test_good_figures_pass() -> None:
    result = judge_with(case(), GOOD, witness={"killed": KILLS, "sent": 900, "seed": 7})
    assert (str(result.verdict), result.reason) == ("PASS", "")
    assert "3 kills (seed [7]), at most 30 trades lost" in crash.headline([result])


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"torn": [7]}, "FAIL at the guard"),
        ({"torn": [7], "booked": False}, "FAIL at the guard"),
        ({"broken_references": 1}, "FAIL"),
        ({"kept": False}, "FAIL at the guard"),
        ({"other_ends": [-11]}, "FAIL"),
        ({"rows.difference": "row 7: price"}, "FAIL at the guard"),
        ({"rows.sources": {"mock": {"stored": 850, "missing": 1}}}, "FAIL at the guard"),
        ({"integrity": "row 7 missing"}, "FAIL"),
        ({"lost": [20, 0, 933]}, "FAIL"),
        ({"lost": []}, "FAIL"),
        ({"lost": [0, 0]}, "FAIL"),
        ({"crash_gaps": [[900, 1200], [1990, 2300]]}, "FAIL at the guard"),
        ({"crash_gaps": [[900, 1200], [1990, 2300], [3100, 3400]]}, "FAIL at the guard"),
        ({"crash_gaps": [], "late_ms": []}, "FAIL at the guard"),
        ({"late_ms": [3, 1001]}, "FAIL at the guard"),
        ({"late_ms": []}, "FAIL at the guard"),
        ({"stored": 0}, "FAIL"),
        ({"stored": 901}, "FAIL"),
        ({"balance": False}, "FAIL"),
        ({"n": 2}, "INCONCLUSIVE"),
        ({"torn": ...}, "ERROR"),
        ({"lost": None}, "ERROR"),
    ],
)
def test_each_figure_counts(changes: dict[str, Any], verdict: str) -> None:
    assert verdict_of(case(), GOOD, changes) == verdict


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(tmp_path / "some.db", isolation_level=None)
    for statement in (
        "CREATE TABLE ticks (id INTEGER PRIMARY KEY)",
        "CREATE TABLE signals (id INTEGER PRIMARY KEY, tick_id INTEGER REFERENCES ticks (id))",
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, signal_id INTEGER REFERENCES signals (id), status TEXT)",
        "CREATE TABLE trades (id INTEGER PRIMARY KEY, order_id INTEGER REFERENCES orders (id))",
        "INSERT INTO ticks VALUES (1), (2), (3)",
        "INSERT INTO signals VALUES (1, 1), (2, 2)",
        "INSERT INTO orders VALUES (1, 1, 'FILLED'), (2, 2, 'REJECTED')",
        "INSERT INTO trades VALUES (1, 1)",
    ):
        connection.execute(statement)
    return connection


@pytest.mark.parametrize(
    ("statement", "torn", "broken"),
    [
        ("SELECT 1", [], 0),
        ("DELETE FROM trades", [1], 0),
        ("DELETE FROM orders WHERE id = 2", [2], 0),
        ("DELETE FROM orders WHERE id = 1", [1], 1),
        ("DELETE FROM signals WHERE id = 2", [2], 1),
        ("DELETE FROM ticks WHERE id = 1", [1], 1),
    ],
)
def test_torn_chains_are_listed(
    database: sqlite3.Connection, tmp_path: Path, statement: str, torn: list[int], broken: int
) -> None:
    database.execute(statement)
    store = Store(tmp_path / "some.db")
    assert torn_chains(store) == torn
    assert store.broken_references() == broken
    assert torn_chains(store, each=True) == sorted({*torn, 3, *([2] if "signals" in statement else [])})
