"""Tapes: captures, the excerpt, random walks, and the noise between trades."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.mock_exchange.protocols.registry import NOISE_OF, classify
from proofs.mock_exchange.tape import NoisePlan, TapeError, builtin_tape, random_walk, read_captures
from tests.support.exchange_client import trades_in

FRAMES = Path(__file__).resolve().parents[3] / "data" / "frames"
CAPTURES = sorted(FRAMES.glob("*.jsonl"))


def recorded_frames(path: Path) -> list[dict[str, Any]]:
    return [json.loads(json.loads(line)["frame"]) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_capture_plays_every_trade_and_repeats(path: Path) -> None:
    tape = read_captures([path])
    news = [trade for frame in recorded_frames(path) for trade in trades_in(frame)]
    lap = len(tape.items)
    assert [(item.price, item.size) for item in tape.items] == [(one["price"], one["size"]) for one in news]
    assert tape.item(lap + 1).price == tape.item(1).price
    assert tape.at(lap + 1) > tape.at(lap)
    noise = sum(len(item.noise) for item in tape.items)
    ignored = sum(classify(frame) is None for frame in recorded_frames(path))
    assert noise + ignored + len(news) == len(recorded_frames(path))


@given(st.integers(1, 5000))
def test_recorded_times_never_go_back(number: int) -> None:
    for tape in (random_walk(7, 50), builtin_tape()):
        assert tape.at(number + 1) >= tape.at(number)


def test_snapshot_with_history_is_not_played() -> None:
    tape = read_captures([FRAMES / "gemini_v2.jsonl"])
    assert not any("trades" in frame for item in tape.items for _, frame in item.noise)
    assert any("trades" in frame for frame in recorded_frames(FRAMES / "gemini_v2.jsonl"))


def test_only_keeps_the_noise_of_other_symbols() -> None:
    tape = read_captures(CAPTURES)
    one = tape.only({"FILUSD"})
    assert one is not None
    assert {item.symbol for item in one.items} == {"FILUSD"}
    assert sum(len(item.noise) for item in one.items) == sum(len(item.noise) for item in tape.items)
    assert tape.only({"NOSUCH"}) is None


def test_same_seed_same_random_walk() -> None:
    assert random_walk(1) == random_walk(1)
    assert random_walk(1) != random_walk(2)


def test_bad_capture_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    good = '{"received_at": 1, "frame": "{}"}\n'
    for bad in ("nonsense", "[]", '{"received_at": "x", "frame": "{}"}', '{"received_at": 1, "frame": "{"}'):
        path.write_text(good + bad)
        with pytest.raises(TapeError, match=r"x\.jsonl, line 2: not a captured frame"):
            read_captures([path])
    path.write_text(good)
    with pytest.raises(TapeError, match="no trade in"):
        read_captures([path])
    path.write_bytes(b"\xff")
    with pytest.raises(TapeError, match="not UTF-8"):
        read_captures([path])


@given(st.floats(0, 5, allow_nan=False), st.integers(1, 300), st.sampled_from(sorted(NOISE_OF)))
def test_noise_rate_is_exact(per_trade: float, trades: int, family: str) -> None:
    tape = builtin_tape()
    plan = NoisePlan(random_walk(1, 30), family, per_trade, tape)
    assert sum(len(plan.before(number)) for number in range(1, trades + 1)) == int(trades * per_trade)
