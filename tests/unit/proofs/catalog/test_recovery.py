"""network, parse, storage and the long lock of overload: what their figures come to, each wrong in turn."""

from __future__ import annotations

from typing import Any

import pytest

from proofs.catalog import network, overload, parse, storage
from proofs.catalog._recovery import Recovery, headline
from tests.support.judging import DEPLOYED, judge_with, verdict_of

CASES: dict[str, Recovery] = {
    "network": network.Refused(DEPLOYED),
    "parse": parse.Spoiled(DEPLOYED),
    "storage": storage.Full(DEPLOYED),
    "overload": overload.Long(DEPLOYED),
}
_OF: dict[str, dict[str, Any]] = {
    "network": {
        "tries": 8,
        "tries_a_s": 0.9,
        "down_of": ["primary", "secondary"],
        "stored_10": 2,
        "back_by": "secondary",
    },
    "parse": {"tries_a_s": 1.5, "garbage": {"primary": 200, "secondary": 180}, "rejected": 90, "stored_11": 2},
    "storage": {"ticks_before": 80, "ticks_kept": 80, "rows_equal": True, "n": 80},
    "overload": {"gave_up_s": 2.1},
}


def good(name: str) -> dict[str, Any]:
    case = CASES[name]
    ends = [{"after_s": 2.2, "status": case.code}]
    if case.restarts > 1:
        ends.append({"after_s": 6.5, "status": case.code})
    return {
        "n": 1,
        "ends": ends,
        "starts": case.restarts,
        "state": "active",
        "lasted_s": 8.6,
        "back_s": 0.5,
        "integrity": "ok",
        **_OF[name],
    }


@pytest.mark.parametrize("name", CASES)
def test_good_figures_pass(name: str) -> None:
    result = judge_with(CASES[name], good(name))
    assert (str(result.verdict), result.reason) == ("PASS", "")
    assert f"ended with [{CASES[name].code}]" in headline([result])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"ends": [], "back_s": None}, "FAIL at the guard"),
        ({"starts": 0}, "FAIL at the guard"),
        ({"state": "failed"}, "FAIL at the guard"),
        ({"back_s": None, "integrity": "ok"}, "FAIL at the guard"),
        ({"back_s": 9.1}, "FAIL at the guard"),
        ({"integrity": "row 7 missing"}, "FAIL"),
        ({"ends": [{"after_s": 2.2, "status": 1}]}, "FAIL"),
        ({"ends": [{"after_s": 1.0, "status": ...}]}, "FAIL at the guard"),
        ({"ends": [{"after_s": 14.0, "status": ...}]}, "FAIL at the guard"),
        ({"n": 0}, "INCONCLUSIVE"),
        ({"ends": ...}, "ERROR"),
        ({"starts": None}, "ERROR"),
    ],
)
def test_each_figure_counts(name: str, changes: dict[str, Any], verdict: str) -> None:
    case = CASES[name]
    if changes.get("ends") and changes["ends"] is not ...:
        wrong = [{**end, "status": case.code if end["status"] is ... else end["status"]} for end in changes["ends"]]
        changes = {**changes, "ends": wrong}
        if name in ("network", "parse"):
            changes |= {"stored_10": 2} if name == "network" else {"stored_11": 2}
    assert verdict_of(case, good(name), changes) == verdict


@pytest.mark.parametrize(
    ("name", "changes", "verdict"),
    [
        ("network", {"tries_a_s": 2.1}, "FAIL"),
        ("network", {"tries_a_s": 0.0}, "FAIL"),
        ("network", {"down_of": ["primary"]}, "FAIL"),
        ("network", {"stored_10": 1}, "FAIL"),
        ("network", {"back_by": None}, "FAIL"),
        ("network", {"tries_a_s": ...}, "ERROR"),
        ("parse", {"tries_a_s": 4.1}, "FAIL"),
        ("parse", {"rejected": 79}, "FAIL"),
        ("parse", {"garbage.secondary": 0}, "FAIL"),
        ("parse", {"stored_11": 1}, "FAIL"),
        ("storage", {"rows_equal": False}, "FAIL"),
        ("storage", {"ticks_kept": 79}, "FAIL"),
        ("storage", {"n": 9}, "INCONCLUSIVE"),
        ("overload", {"gave_up_s": None}, "FAIL"),
        ("overload", {"gave_up_s": 1.9}, "FAIL"),
        ("overload", {"gave_up_s": 5.1}, "FAIL"),
    ],
)
def test_each_own_figure_counts(name: str, changes: dict[str, Any], verdict: str) -> None:
    assert verdict_of(CASES[name], good(name), changes) == verdict


@pytest.mark.parametrize("name", ["network", "parse", "storage"])
def test_restarts_without_a_pause_fail(name: str) -> None:
    code = CASES[name].code
    ends = [{"after_s": at, "status": code} for at in (2.2, 4.4)]
    assert verdict_of(CASES[name], good(name), {"ends": ends}) == "FAIL"


@pytest.mark.parametrize("name", CASES)
def test_no_witness_is_inconclusive(name: str) -> None:
    assert judge_with(CASES[name], good(name), witness=None).verdict == "INCONCLUSIVE"
