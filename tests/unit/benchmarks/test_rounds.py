"""Rounds at half of capacity: those before and after which the machine was equally fast count, others are reported."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import bench
from tests.benchmarks.race import Void, run_rounds

_MS = 1000


@pytest.fixture
def p99s(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The results of the next rounds, in turn (microseconds)."""
    next_ones: list[int] = []

    def steady(rate: float, seconds: float) -> dict[str, Any]:
        times = {"p50": 1, "p99": next_ones.pop(0), "max": 9 * _MS}
        counts = {"sent": 10, "stored": 10, "dropped": 0, "sent_per_second": rate}
        rest = {"peak_mb": 30.0, "growth_mb_a_minute": 0.0, "cpu_share": 0.5}
        return {"rate": rate, "seconds": seconds, **counts, **rest, "decided_us": times, "committed_us": times}

    monkeypatch.setattr(bench, "steady", steady)
    monkeypatch.setattr(bench, "floor", lambda rate, seconds: {"p50": 1, "p99": 2, "max": 3})
    return next_ones


def test_round_counts_when_floods_agree(p99s: list[int]) -> None:
    p99s += [1 * _MS, 3 * _MS, 2 * _MS]
    rates = iter([1000.0, 1249.0, 1000.0, 801.0, 1000.0, 1000.0])
    result = bench.latencies(lambda: next(rates), 3, 1.0)
    assert (result["rounds"], result["void"], result["void_decided_p99_us"]) == (3, 0, [])
    assert (result["decided_us"]["p99"], result["decided_us"]["p99_least"], result["decided_us"]["p99_most"]) == (
        2 * _MS,
        1 * _MS,
        3 * _MS,
    )
    assert (result["rate"], result["sent : rate"]) == (1000.0, 1.0)


@pytest.mark.parametrize("after", [799.0, 1251.0])
def test_round_is_void_when_floods_differ(p99s: list[int], after: float, capsys: pytest.CaptureFixture[str]) -> None:
    p99s += [1, 7 * _MS, 2 * _MS]
    rates = iter([1000.0, after, 1000.0, after, 1000.0, 1000.0])
    result = bench.latencies(lambda: next(rates), 1, 1.0)
    assert (result["void"], result["void_decided_p99_us"], result["decided_us"]["p99"]) == (2, [1, 7 * _MS], 2 * _MS)
    assert f"void: 1,000 frames/s was asked for, and {after:,.0f} after it" in capsys.readouterr().out


def test_too_many_void_rounds_give_no_figure(p99s: list[int]) -> None:
    p99s += [1] * 100
    rates = iter([1000.0, 2000.0] * 100)
    with pytest.raises(Void, match="another pace"):
        bench.latencies(lambda: next(rates), 2, 1.0)
    assert 100 - len(p99s) == bench.MAX_VOID * 2 + 1


def test_unshown_figure_is_inconclusive(p99s: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p99s += [1] * 100
    for name in ("starts", "race", "fan_out", "bare_memory_mb"):
        monkeypatch.setattr(bench, name, lambda *_: {})
    floods = iter([2000.0, 4000.0] * 100)
    monkeypatch.setattr(bench, "run_peer", lambda peer, frames: {"per_second": next(floods)})
    out = tmp_path / "bench.json"
    monkeypatch.setattr(sys, "argv", ["bench", "--rounds", "1", "--out", str(out)])
    bench.main()
    result = json.loads(out.read_text())
    assert result["at_1000"]["rate"] == 1000.0
    assert list(result["at_half"]) == ["INCONCLUSIVE"]
    assert "1,000 frames/s was asked for, and 2,000 after it" in result["at_half"]["INCONCLUSIVE"]


def test_void_rounds_are_bounded() -> None:
    tries: list[int] = []

    def one(number: int) -> int:
        tries.append(number)
        if len(tries) <= 2:
            raise Void("lost")
        return number

    assert run_rounds(2, one) == ([1, 2], 2)
    tries.clear()
    with pytest.raises(Void, match="lost"):
        run_rounds(1, one)
