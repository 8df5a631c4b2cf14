"""Figures that are read again from recorded outputs: what counts as different, unread or missing.

What the catalogue's cases read again is walked in tests/unit/proofs/verifier/test_figures.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proofs.evidence.recorder import Recorder, read
from proofs.experiment.row_reads import RecordedStore
from proofs.experiment.trace import Between, Trace, Untraced, differences
from proofs.host.shell import Host

Event = dict[str, Any]
SPAN = Between(1.0, 2.0)


@pytest.mark.parametrize(
    ("figures", "again", "named"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": 1}, {"a": 1.0}, ["a"]),
        ({"a": 1.5}, {"a": SPAN}, []),
        ({"a": 2.1}, {"a": SPAN}, ["a"]),
        ({"a": True}, {"a": SPAN}, ["a"]),
        ({"a": None}, {"a": SPAN}, ["a"]),
        ({"a": [{"b": 1.5, "c": 1}]}, {"a": [{"b": SPAN, "c": 2}]}, ["a.0.c"]),
        ({"a": [1.5]}, {"a": [SPAN, SPAN]}, ["a"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, ["a.c"]),
        ({"a": 1, "b": {"c": 2, "d": {}}}, {"a": 1}, ["b.c", "b.d"]),
        ({}, {"a": 1}, ["a"]),
        ({}, {"a": None}, []),
    ],
)
def test_figure_that_differs_or_is_unread_is_named(figures: Event, again: Event, named: list[str]) -> None:
    assert [text.partition(" is ")[0] for text in differences(figures, again)] == named


@pytest.mark.parametrize("pattern", ["b", "b.*", "b.c"])
def test_figure_on_the_hosts_word_may_be_unread(pattern: str) -> None:
    figures = {"a": 1, "b": {"c": 2}}
    assert differences(figures, {"a": 1}, [pattern]) == []
    assert differences(figures, {"b": {"c": 2}}, [pattern]) == ["a is '1', and no recorded output shows it"]
    assert differences(figures, {"a": 1, "b": {"c": 3}}, [pattern]) != []


@pytest.fixture
def store(tmp_path: Path) -> RecordedStore:
    database = tmp_path / "x.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE ticks (id INTEGER, source TEXT)")
        connection.execute("INSERT INTO ticks VALUES (1, 'a'), (2, 'b\n')")
    return RecordedStore(Host(Recorder(tmp_path / "events.jsonl"), "test"), "x.service", database)


def trace_of(store: RecordedStore) -> Trace:
    return Trace(read(store.path.parent / "events.jsonl"), lambda event: str(event["stdout"]))


def test_reads_are_answered_by_the_recording(store: RecordedStore) -> None:
    rows = store.ticks(2)
    with sqlite3.connect(store.path) as connection:
        connection.execute("DELETE FROM ticks WHERE id = 2")
    assert store.ticks(2) == rows[:1]
    trace = trace_of(store)
    assert [trace.store(number, "x.service").ticks(2) for number in (0, 1)] == [rows, rows[:1]]
    assert trace.store(-1, "x.service").ticks(2) == rows[:1]


@pytest.mark.parametrize(
    "read_again",
    [
        lambda trace: trace.store(-1, "x.service").ticks(3),
        lambda trace: trace.store(-1, "x.service").runs(),
        lambda trace: trace.store(1, "x.service").ticks(2),
        lambda trace: trace.store(-1, "y.service").ticks(2),
        lambda trace: trace.store().ticks(2),
        lambda trace: trace.shown(0),
        lambda trace: trace.journal(),
        lambda trace: trace.waits("a tick"),
    ],
)
def test_what_is_not_recorded_is_untraced(store: RecordedStore, read_again: Callable[[Trace], object]) -> None:
    store.ticks(2)
    with pytest.raises(Untraced):
        read_again(trace_of(store))


def test_failed_read_fails_again(store: RecordedStore) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table: runs"):
        store.runs()
    with pytest.raises(sqlite3.OperationalError, match="no such table: runs"):
        trace_of(store).store(-1, "x.service").runs()
