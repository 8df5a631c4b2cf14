"""What a soak reads: the journal, NRestarts, the settings, its own samples; and by what it judges them."""

from __future__ import annotations

import argparse
import doctest
import json
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from proofs.experiment.case import judge
from proofs.host import shell
from proofs.host.unit import UNIT_STARTING, Entry, starts
from proofs.soak import exit_table, health_gate, statistics
from proofs.soak.criteria import PROOF, SoakRules
from proofs.soak.exit_table import Exit
from proofs.soak.health_gate import parse_settings
from proofs.soak.observer import Observer
from proofs.soak.options import Options, mode_of, seconds_of, stall_of
from tests.support.judging import DEPLOYED

WITNESS = {"from": 1, "to": 2, "invocation": "ab"}
GOOD: dict[str, Any] = {
    "n": 1440,
    "asked_s": 7200.0,
    "watched_s": 7200.4,
    "began_s": 5.0,
    "ended": "COMPLETE",
    "why": "7200 s are over",
    "by_operator": False,
    "restarts": {},
    "lost": 0,
    "stalls": 0,
    "ticks": 14_000,
    "unread": 0,
    "unbalanced": 0,
    "away_s": 0.0,
    "rss": [[[0.0, 24_000], [3600.0, 24_500], [7200.0, 25_000]]],
    "on_the_exchange_asked_for": True,
    "stopped": False,
    "exit_code": None,
}


def entry(message: str, run: str = "a", at_s: float = 0.0, result: str = "", message_id: str = "") -> Entry:
    return Entry(at_s, 0.0, message, run, result, message_id)


def ended(run: str, status: str, result: str, at_s: float = 0.0, code: str = "exited") -> list[Entry]:
    return [
        entry(f"hybrid-engine.service: Main process exited, code={code}, status={status}", run, at_s),
        entry(f"hybrid-engine.service: Failed with result '{result}'.", run, at_s, result),
    ]


def test_how_runs_ended_each_by_its_own_result() -> None:
    entries = [*ended("a", "13/n/a", "exit-code"), *ended("b", "6/ABRT", "watchdog", code="dumped")]
    assert exit_table.exits(entries) == [Exit("a", 13, "exit-code"), Exit("b", -6, "watchdog")]
    assert [one.label for one in exit_table.exits(entries)] == ["13 OVERLOAD", "WATCHDOG"]


def test_an_exit_waits_for_the_line_that_says_what_it_counts_as() -> None:
    first, second = ended("a", "6/ABRT", "watchdog", code="killed")
    before = entry("something")
    assert exit_table.split([before, first]) == ([before], [first])
    assert exit_table.split([first, second]) == ([first, second], [])


def test_starts_and_restarts() -> None:
    entries = [
        entry("Starting", "b", message_id=UNIT_STARTING),
        entry("x: Scheduled restart job, restart counter is 7"),
    ]
    assert starts(entries) == ["b"]
    assert exit_table.restarts(entries) == 1


def up(at_s: float) -> Entry:
    return entry("Started", at_s=at_s, message_id=exit_table.UNIT_STARTED)


def down(at_s: float) -> Entry:
    return entry("Stopping", at_s=at_s, message_id=exit_table.UNIT_STOPPING)


@pytest.mark.parametrize(
    ("entries", "away_s"),
    [
        ([], 0.0),
        ([*ended("a", "10", "exit-code", 12.0), up(15.0)], 3.0),
        ([*ended("a", "10", "exit-code", 12.0), *ended("b", "10", "exit-code", 14.0), up(15.0)], 3.0),
        ([down(18.0)], 2.0),
        ([down(11.0), up(12.0), down(13.0), up(14.5)], 2.5),
        ([down(25.0), up(26.0)], 0.0),  # after it
        ([up(11.0)], 0.0),
    ],
)
def test_how_long_it_was_away_between_10_and_20(entries: list[Entry], away_s: float) -> None:
    assert exit_table.away_s(entries, 10.0, 20.0) == away_s


def test_the_worst_pressure_and_nothing_for_unknown() -> None:
    beats: list[dict[str, Any]] = [
        {"psi_cpu_worst": 3.5, "psi_io_worst": None},
        {"psi_cpu_worst": 2.0, "psi_memory_worst": 0.0},
    ]
    assert exit_table.worst(beats) == {"cpu": 3.5, "memory": 0.0, "io": None}


def test_only_the_engines_own_lines_are_figures() -> None:
    beat, other = {"message": "HEARTBEAT", "sample_every": 5}, {"message": "x"}
    entries = [entry(json.dumps({"fields": beat})), entry("HEARTBEAT"), entry(json.dumps({"fields": other}))]
    assert exit_table.engine_fields(entries) == [beat]


AGAIN = entry("x: Scheduled restart job")


@pytest.mark.parametrize(
    ("looks", "lost"),
    [
        ([(3, []), (4, [AGAIN])], 0),
        ([(4, [])], 1),
        ([(6, [AGAIN])], 2),
        ([(6, [AGAIN]), (6, [])], 2),  # told once
        ([(0, [])], 0),  # reset by a start by hand
        ([(0, []), (2, [AGAIN])], 1),
        ([(1, [])], 1),  # reset, and restarted since
    ],
)
def test_restarts_that_only_nrestarts_knows_of(looks: list[tuple[int, list[Entry]]], lost: int) -> None:
    one = Observer.__new__(Observer)
    one._restarts, one._missing, one._pending = 3, 0, []
    assert sum(one._count_lost(restarts, entries) for restarts, entries in looks) == lost


def test_the_settings_that_config_check_shows() -> None:
    shown = 'app.db_path        = "/x # y.db"   # file\nengine.psi_actions = "on"   # default\nsource a: b\n'
    assert parse_settings(shown) == {"app.db_path": "/x # y.db", "engine.psi_actions": "on"}


@pytest.mark.parametrize(("stall_s", "look_s"), [(45.0, 5.0), (9.0, 1.0), (1.0, 0.25), (3600.0, 5.0)])
def test_how_often_it_looks_follows_from_the_threshold(stall_s: float, look_s: float) -> None:
    assert Options(stall_s=stall_s).look_s == look_s


@pytest.mark.parametrize("text", ["9", "x", "nan", "inf", "-1", "99999999"])
def test_seconds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seconds_of(text)
    assert stall_of("45") == 45.0
    assert mode_of("real_ws") == "REAL_WS"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seconds", "1"], "--seconds: 1: seconds, from 10 to 172800"),
        (["--stall-threshold-sec", "0"], "--stall-threshold-sec: 0: seconds, from 1 to 3600"),
        (["--mode", "SHADOW"], "--mode: SHADOW: as-configured or SYNTHETIC, MOCK_WS, REAL_WS"),
        (["--psi-actions", "yes"], "--psi-actions: invalid choice: 'yes'"),
        (["--unit", "nginx.service"], "refused: "),
        (["--inside"], "--inside is for hybrid-soak.service alone"),
    ],
)
def test_a_bad_word_is_one_line_and_2(words: list[str], said: str) -> None:
    command = [sys.executable, "-m", "proofs.cli", "soak", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("hybrid-proofs") for line in lines), done.stderr
    assert len(lines) == 1 or all(": refused: " in line for line in lines), "a line a reason"


def verdict(**changes: Any) -> str:
    return str(judge(SoakRules(DEPLOYED), WITNESS, GOOD | changes).verdict)


def test_a_good_soak_passes() -> None:
    assert verdict() == "PASS"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ended": "ABORT"}, "FAIL"),
        ({"ended": "ABORT", "watched_s": 60.0}, "FAIL"),
        ({"ended": "ABORT", "watched_s": 60.0, "by_operator": True}, "INCONCLUSIVE"),
        ({"ended": "STOP", "watched_s": 60.0}, "INCONCLUSIVE"),
        ({"ended": "STOP", "watched_s": 60.0, "away_s": 30.0}, "INCONCLUSIVE"),
        ({"ended": "STOP", "watched_s": 60.0, "restarts": {"BUG": 1}}, "FAIL"),
        ({"watched_s": 7199.0}, "FAIL"),
        ({"n": 4}, "INCONCLUSIVE"),
        ({"restarts": {"NETWORK": 2, "BY HAND": 1}}, "PASS"),
        *(({"restarts": {cause: 1}}, "FAIL") for cause in ("OVERLOAD", "PARSE", "WATCHDOG", "OOM", "STALL", "SIGKILL")),
        ({"lost": 1}, "INCONCLUSIVE"),
        ({"away_s": 72.0}, "PASS"),
        ({"away_s": 73.0}, "FAIL"),
        ({"ticks": 0}, "FAIL"),
        ({"unbalanced": 1}, "FAIL"),
        ({"unread": 14}, "PASS"),
        ({"unread": 15}, "FAIL"),
        ({"on_the_exchange_asked_for": False}, "INCONCLUSIVE"),
        ({"rss": []}, "INCONCLUSIVE"),
        ({"rss": [[[0.0, 24_000], [7200.0, 24_000 + 8192 + 4096]]]}, "PASS"),
        ({"rss": [[[0.0, 24_000], [7200.0, 24_000 + 8192 + 4196]]]}, "FAIL"),
        ({"rss": [[[0.0, 0], [60.0, 90_000]], [[70.0, 24_000], [7200.0, 24_000]]]}, "PASS"),  # the longest run counts
        ({"stopped": True, "exit_code": 0}, "PASS"),
        ({"stopped": True, "exit_code": 14}, "FAIL"),
        ({"stopped": True, "exit_code": None}, "FAIL"),
        ({"ticks": -1}, "ERROR"),
        ({"ended": 1}, "ERROR"),
    ],
)
def test_each_criterion(changes: dict[str, Any], said: str) -> None:
    assert verdict(**changes) == said


@pytest.mark.parametrize(
    "module", [exit_table, statistics, health_gate, shell], ids=lambda module: str(module.__name__)
)
def test_what_its_examples_say(module: ModuleType) -> None:
    ran = doctest.testmod(module)
    assert ran.attempted > 0
    assert ran.failed == 0


def test_no_new_tick_is_no_witness() -> None:
    assert str(judge(SoakRules(DEPLOYED), {**WITNESS, "to": 1}, GOOD).verdict) == "INCONCLUSIVE"


def test_it_is_no_proof_and_opens_nothing() -> None:
    from proofs.catalog import PROOFS, REQUIRED
    from proofs.verifier.verify import JUDGED

    assert JUDGED["soak"].claim == PROOF.claim
    assert "soak" not in PROOFS
    assert all("soak" not in names for names in REQUIRED.values())
