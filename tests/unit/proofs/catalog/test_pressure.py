"""pressure: what its figures come to, each wrong in turn; which trades are due when the sampling changes on the way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.catalog import pressure
from proofs.catalog.pressure import due, spacings, spans
from proofs.evidence.recorder import Recorder
from proofs.experiment import cpu_load
from proofs.host.shell import Host, process_state
from proofs.host.unit import Entry
from tests.support.judging import DEPLOYED, judge_with, verdict_of
from tests.support.process import wait_until


def decision(after_s: float, action: str, every: int, received: int | None, avg10: float) -> dict[str, Any]:
    lines = {
        kind: [f"some avg10={avg10 if kind == 'cpu' else 0:.2f} avg60=1.00 avg300=1.00 total=1"]
        for kind in ("cpu", "memory", "io")
    }
    return {
        "after_s": after_s,
        "action": action,
        "would": None,
        "state": "",
        "sample_every": every,
        "received": received,
        "reason": "",
        "psi": lines,
        "host_psi": lines,
    }


DECISIONS = [
    decision(10.0, "THROTTLE_UP", 5, 1149, 53.0),
    decision(13.4, "THROTTLE_UP", 10, 1374, 57.0),
    decision(16.8, "THROTTLE_UP", 20, 1598, 61.0),
    decision(20.0, "THROTTLE_MAX", 20, None, 64.0),
    decision(40.0, "THROTTLE_DOWN", 10, 4048, 24.0),
    decision(43.4, "THROTTLE_DOWN", 5, 4274, 23.0),
    decision(46.8, "THROTTLE_DOWN", 1, 4499, 22.0),
]
COUNTERS = {
    "received": 4663,
    "sampled_out": 3094,
    "rejected": 0,
    "duplicate": 0,
    "dropped": 0,
    "waiting": 0,
    "admitted": 1569,
    "ticks_stored": 1569,
}
GOOD: dict[str, Any] = {
    "n": 4663,
    "stored": 1569,
    "ids_match": True,
    "kept": [1, 5, 10, 20, 10, 5, 1],
    "spans": [[0, 1]],
    "decisions": DECISIONS,
    "after_reload": [20],
    "over_s": 8.4,
    "calm_s": 38.5,
    "pressed_again": 23.3,
    "restarted": False,
    "exit_code": 0,
    "store": dict(COUNTERS),
}
WOULD = [{**one, "action": "PSI_LOGONLY", "would": one["action"], "received": None} for one in DECISIONS]
LOGONLY = {"decisions": WOULD, "kept": [1], "after_reload": [1], "stored": 4663}


def without(number: int, key: str) -> list[dict[str, Any]]:
    return [{**one, key: None} if at == number else one for at, one in enumerate(DECISIONS)]


def test_good_figures_pass() -> None:
    result = judge_with(pressure.Pressed(DEPLOYED), GOOD)
    assert (str(result.verdict), result.reason) == ("PASS", "")
    assert pressure.headline([result]) == (
        "kept 1/1 1/5 1/10 1/20 1/10 1/5 1/1; first step 1.6 s after the limit, all kept 8.3 s after calm"
    )


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        (LOGONLY, "FAIL at the guard"),
        ({"decisions": DECISIONS[:4], "kept": [1, 5, 10, 20]}, "FAIL at the guard"),  # it latched
        ({"decisions": DECISIONS[1:]}, "FAIL at the guard"),
        ({"decisions": without(1, "received")}, "FAIL at the guard"),
        ({"over_s": 4.9}, "FAIL at the guard"),
        ({"calm_s": 29.0}, "FAIL at the guard"),
        ({"after_reload": [1]}, "FAIL at the guard"),
        ({"after_reload": []}, "FAIL at the guard"),
        ({"ids_match": False}, "FAIL at the guard"),
        ({"kept": [1, 5, 20, 10, 5, 1]}, "FAIL at the guard"),
        ({"decisions": [*DECISIONS[:2], {**DECISIONS[2], "after_s": 14.5}, *DECISIONS[3:]]}, "FAIL at the guard"),
        ({"decisions": without(0, "psi")}, "FAIL"),
        ({"decisions": without(6, "host_psi")}, "FAIL"),
        ({"decisions": [decision(10.0, "THROTTLE_UP", 5, 1149, 43.0), *DECISIONS[1:]]}, "FAIL"),
        ({"decisions": [*DECISIONS[:6], decision(46.8, "THROTTLE_DOWN", 1, 4499, 25.0)]}, "FAIL"),
        ({"store.dropped": 1}, "FAIL"),
        ({"store.received": 4662, "store.sampled_out": 3093}, "FAIL"),
        ({"restarted": True}, "FAIL"),
        ({"exit_code": None}, "FAIL"),
        ({"calm_s": None, "decisions": DECISIONS[:4], "kept": [1, 5, 10, 20]}, "INCONCLUSIVE"),
        ({"pressed_again": 50.1}, "INCONCLUSIVE"),
        ({"n": 1499}, "INCONCLUSIVE"),
        ({"store": ...}, "ERROR"),
    ],
)
def test_each_figure_counts(changes: dict[str, Any], verdict: str) -> None:
    assert verdict_of(pressure.Pressed(DEPLOYED), GOOD, changes) == verdict


def line(message: str, invocation: str = "run", **fields: object) -> Entry:
    return Entry(0.0, 0.0, json.dumps({"fields": {"message": message, **fields}}), invocation, "", "")


def test_spans_are_read_from_log_lines() -> None:
    entries = [
        line("pressure decision", "another", received=1, current_sample_every=5),
        line("pressure decision", received=10, current_sample_every=5),
        line("pressure decision", received=None, current_sample_every=5),
        line("HEARTBEAT", received=12, sample_every=5),
        line("reloaded", received=13, sample_every=7),
    ]
    assert spans(entries, "run", 1) == [(0, 1), (10, 5), (13, 7)]


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=8))
def test_due_trades_follow_a_restarted_count(lengths: list[tuple[int, int]]) -> None:
    found, number, starts = [], 0, []
    for length, every in lengths:
        starts.append((number, every))
        for seen in range(1, length + 1):
            number += 1
            if seen % every == 0:
                found.append(number)
    assert due(starts, number) == found


def test_boundary_between_spans_is_no_spacing() -> None:
    ids = due([(0, 1), (10, 5), (33, 20), (153, 1)], 160)
    assert spacings(ids) == [1, 5, 20, 1]
    assert spacings([]) == []


def test_burners_run_until_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    (tmp_path / "cgroup.procs").write_text("")
    burners = cpu_load.Burners(Host(Recorder(tmp_path / "events.jsonl")), tmp_path)
    first, last = burners.pids
    try:
        assert (tmp_path / "cgroup.procs").read_text() == str(last)  # a file, so only the last write is there
        (tmp_path / "cgroup.procs").write_text(f"{first}\n{last}\n")
        wait_until(lambda: burners.running() == [first, last], "both at work")
        assert os.sched_getscheduler(first) == os.SCHED_IDLE
        (tmp_path / "cgroup.procs").write_text(f"{last}\n")
        wait_until(lambda: burners.running() == [last], "only who is there")
    finally:
        burners.end()
    assert [process_state(pid) for pid in (first, last)] == ["", ""]


def test_unknown_pressure_is_none(tmp_path: Path) -> None:
    assert cpu_load.some_avg10(tmp_path) is None
    (tmp_path / "cpu.pressure").write_text("some avg10=12.50 avg60=1.00 avg300=0.00 total=7\nfull avg10=1.00\n")
    assert cpu_load.some_avg10(tmp_path) == 12.5
    assert cpu_load.cgroup("") is None
    assert cpu_load.cgroup("/no/such.service") is None


def test_pressure_is_not_applicable_without_psi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host(Recorder(tmp_path / "events.jsonl"))
    monkeypatch.setattr(pressure, "read_text", lambda path: "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    assert pressure.PROOF.not_applicable(host) == ""
    monkeypatch.setattr(pressure, "read_text", lambda path: "")
    assert "knows no pressure" in pressure.PROOF.not_applicable(host)
