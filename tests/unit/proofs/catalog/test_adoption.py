"""adoption judges what was measured, and a controller that did not answer shows nothing."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from proofs.catalog import REQUIRED, adoption
from proofs.catalog.adoption import OVERRIDE, UNIT, TakenOver
from proofs.experiment.case import Deployed
from tests.support.judging import judge_with

CASE = TakenOver(Deployed(10.0, 2.0, (0, 0)))
GOOD = {"n": 2, "adopt": 0, "engine": True, "dropin": False, "not_kept": [], "back": 0, "stand_in": True}
GOOD["not_back"] = []


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ({}, "PASS"),
        ({"adopt": 2}, "FAIL"),
        ({"engine": False}, "FAIL"),
        ({"dropin": True}, "FAIL"),
        ({"not_kept": ["the unit"]}, "FAIL"),
        ({"back": 2}, "FAIL"),
        ({"stand_in": False}, "FAIL"),
        ({"not_back": ["its drop-in"]}, "FAIL"),
        ({"adopt": None}, "INCONCLUSIVE"),
        ({"back": None, "stand_in": False}, "INCONCLUSIVE"),
        ({"n": 1}, "INCONCLUSIVE"),
    ],
)
def test_verdicts(wrong: dict[str, object], verdict: str) -> None:
    result = judge_with(CASE, {**GOOD, **wrong})
    assert (str(result.verdict), result.failed_at_guard) == (verdict, verdict == "FAIL")


def test_it_is_required_of_a_lab_alone() -> None:
    assert ("adoption" in REQUIRED["lab"], "adoption" in REQUIRED["nuc"]) == (True, False)


def test_unit_and_drop_in_are_those_of_the_first_system() -> None:
    """The drop-in wins over the unit: what the unit starts is not what runs."""
    assert "ExecStart=/opt/hybrid-trading-bot/engine-rust/target/debug/engine-rust" in UNIT
    assert OVERRIDE.count("ExecStart=") == 2
    assert "Restart=always" in UNIT
    assert "Restart=on-failure" in OVERRIDE


def test_record_is_spoiled_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "override.conf"
    states = {str(path): {"data": base64.b64encode(OVERRIDE.encode()).decode()}, "other": {"data": "eA=="}}
    spoiled = json.loads(adoption._spoiled(json.dumps({"states": states}), path))["states"]
    assert spoiled["other"] == states["other"]
    assert base64.b64decode(spoiled[str(path)]["data"]).decode() != OVERRIDE
