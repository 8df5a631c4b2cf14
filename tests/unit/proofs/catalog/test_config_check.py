"""exit12's check of configurations: each that is not refused as it is to be is found, and so is a sound one refused."""

from __future__ import annotations

import pytest

from proofs.catalog._config_check import SOUND, WRONG, ConfigCheck
from tests.support.judging import DEPLOYED, verdict_of
from tests.support.recorded_cases import figures, load

CASE = ConfigCheck(DEPLOYED)
MEASURED = {name: value for name, value in figures(load()["exit12", CASE.name]).items() if name != "witness"}


def test_recorded_answers_pass() -> None:
    assert verdict_of(CASE, MEASURED, {}) == "PASS"


@pytest.mark.holds("CONFIG12")
@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_configuration_counts(name: str) -> None:
    line = MEASURED["said"][name]
    told = WRONG[name][2][-1]
    for said in ("exit 0: ", f"exit 1: {line}", f"exit 12: {line}\nTraceback", line.replace(told, ""), ...):
        changed = {**MEASURED, "said": {**MEASURED["said"], name: said}}
        if said is ...:
            del changed["said"][name]
        assert verdict_of(CASE, changed, {}) == "FAIL at the guard", said


@pytest.mark.parametrize("name", SOUND)
def test_each_sound_configuration_counts(name: str) -> None:
    assert verdict_of(CASE, MEASURED, {f"sound.{name}": 12}) == "FAIL at the guard"


def test_fewer_answers_show_nothing() -> None:
    assert verdict_of(CASE, MEASURED, {"n": len(WRONG) - 1}) == "INCONCLUSIVE"
