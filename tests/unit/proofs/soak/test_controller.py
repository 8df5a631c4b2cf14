"""The soak's decisions: about each exit of the exit table, about stalls, and about requests to stop."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest

from proofs.soak.controller import Effect
from proofs.soak.exit_table import EXITS, LADDER, REPEATED, TRIES
from tests.support.soaking import STALL_S, Looks, actions, controller

THROTTLE = {"message": "pressure decision", "action": "THROTTLE_UP", "reason": "cpu 30 > 20", "psi": {}, "host_psi": {}}


@pytest.fixture
def looks() -> Looks:
    return Looks()


def test_working_engine_completes_without_a_decision() -> None:
    looks = Looks(controller(seconds=5.0))
    for _ in range(4):
        assert looks.look() == []
    (last,) = looks.look()
    assert (last.action, last.effect, looks.of.outcome) == ("COMPLETE", Effect.END, "COMPLETE")
    assert looks.look() == [], "nothing is decided any more"


@pytest.mark.parametrize(
    ("status", "expected", "effect"),
    [
        (10, ["ENGINE_EXIT"], Effect.NOTHING),
        (11, ["ENGINE_EXIT"], Effect.NOTHING),
        (12, ["ENGINE_EXIT", "ABORT"], Effect.END),
        (13, ["ENGINE_EXIT", "THROTTLE_UP"], Effect.SAMPLE),
        (14, ["ENGINE_EXIT", "ABORT"], Effect.END),
        (1, ["ENGINE_EXIT", "ABORT"], Effect.END),
        (2, ["ENGINE_EXIT", "ABORT"], Effect.END),
        (255, ["ENGINE_EXIT", "ABORT"], Effect.END),
        (-9, ["ENGINE_EXIT"], Effect.NOTHING),
        (None, ["ENGINE_EXIT"], Effect.NOTHING),
    ],
)
def test_response_to_one_exit(looks: Looks, status: int | None, expected: list[str], effect: Effect) -> None:
    decisions = looks.ends(status)
    assert actions(decisions) == expected
    assert decisions[-1].effect is effect
    assert bool(looks.of.outcome) is (expected[-1] == "ABORT")


def test_exit_table_is_the_engines() -> None:
    from hybrid_engine.runtime.errors import ExitCode

    assert {code: name for code, (name, _) in EXITS.items()} == {int(code): code.name for code in ExitCode}


def test_stopped_engine_ends_the_soak_at_the_second_look(looks: Looks) -> None:
    assert looks.look(active="inactive", running=False) == []
    assert actions(looks.look(active="inactive", running=False)) == ["ENGINE_EXIT", "STOP"]


def test_inactive_unit_with_a_job_is_waited_for(looks: Looks) -> None:
    for _ in range(5):
        assert looks.look(active="inactive", running=False, busy=True) == []
    assert looks.look() == []


def test_failed_unit_without_a_job_aborts(looks: Looks) -> None:
    assert actions(looks.ends(10, active="failed", running=False, started=[])) == ["ENGINE_EXIT"]
    assert actions(looks.look(active="failed", running=False)) == ["ABORT"]


def test_restart_by_hand_is_recorded(looks: Looks) -> None:
    looks.look()
    looks.run = 1
    (decision,) = looks.look(started=["run-1"])
    assert (decision.action, looks.of.outcome, looks.of.restarts) == ("ENGINE_EXIT", "", {"BY HAND": 1})


def test_clean_exit_and_start_is_a_restart_by_hand(looks: Looks) -> None:
    assert actions(looks.ends(0, "")) == ["ENGINE_EXIT"]
    assert (looks.of.outcome, looks.of.restarts) == ("", {"BY HAND": 1})


@pytest.mark.parametrize("recorded", [True, False])
def test_expected_exit_leads_to_no_decision(looks: Looks, recorded: bool) -> None:
    """A stop that went well is not worth a line of the journal."""
    looks.of.expected.add("run-0")
    assert looks.ends(-9, "signal", **({} if recorded else {"exits": []})) == []
    assert not looks.of.restarts


@pytest.mark.parametrize("cause", [(10, "exit-code"), (-6, "watchdog"), (-9, "oom-kill"), (-11, "core-dump")])
def test_aborts_when_no_run_holds(looks: Looks, cause: tuple[int, str]) -> None:
    for _ in range(TRIES - 1):
        assert actions(looks.ends(*cause)) == ["ENGINE_EXIT"]
    looks.hold()
    for _ in range(TRIES - 1):
        assert actions(looks.ends(*cause)) == ["ENGINE_EXIT"]
    assert actions(looks.ends(*cause)) == ["ENGINE_EXIT", "ABORT"]
    assert "no run held" in looks.of.why


def test_run_without_a_tick_does_not_hold(looks: Looks) -> None:
    for _ in range(TRIES - 1):
        looks.ends(10, tick=500)
        for _ in range(int(STALL_S) + 2):  # the engine knows that there is no feed: that is no stall
            assert looks.look(tick=500, frame_age_s=99.0, feed_down=True) == []
    assert actions(looks.ends(10)) == ["ENGINE_EXIT", "ABORT"]


def test_repeated_11_switches_to_the_mock_exchange(looks: Looks) -> None:
    for _ in range(3):
        for _ in range(REPEATED - 1):
            assert actions(looks.ends(11)) == ["ENGINE_EXIT"]
        looks.hold()
    for _ in range(REPEATED - 1):
        looks.ends(11)
    decisions = looks.ends(11)
    assert actions(decisions) == ["ENGINE_EXIT", "ENGINE_RESTART"]
    assert decisions[-1].effect is Effect.MOCK
    assert looks.of.mock
    for _ in range(REPEATED - 1):  # the mock has tries of its own
        assert actions(looks.ends(11)) == ["ENGINE_EXIT"]


def test_repeated_11_on_the_mock_exchange_aborts(looks: Looks) -> None:
    looks.of.mock = True
    for _ in range(REPEATED - 1):
        looks.ends(11)
    assert actions(looks.ends(11)) == ["ENGINE_EXIT", "ABORT"]


def test_11_counts_among_other_failures(looks: Looks) -> None:
    looks.ends(10)
    looks.ends(11)
    assert actions(looks.ends(10)) == ["ENGINE_EXIT", "ABORT"]


@pytest.mark.parametrize(("configured", "steps"), [(1, [5, 10, 20]), (5, [10, 20]), (7, [10, 20]), (20, []), (99, [])])
def test_each_13_is_one_step_up_the_ladder(configured: int, steps: list[int]) -> None:
    looks = Looks(controller(sample_every=configured))
    for step in steps:
        decisions = looks.ends(13)
        assert actions(decisions) == ["ENGINE_EXIT", "THROTTLE_UP"]
        assert (decisions[-1].effect, looks.of.sample_every) == (Effect.SAMPLE, step)
        looks.hold()
    assert actions(looks.ends(13)) == ["ENGINE_EXIT", "THROTTLE_MAX", "ABORT"]
    assert looks.of.sample_every == max([configured, *steps])


def test_ladder_is_the_engines() -> None:
    from hybrid_engine import pressure

    assert [(rung.sample_every, rung.name) for rung in pressure.LADDER] == list(LADDER)


def test_all_exits_between_two_looks_count(looks: Looks) -> None:
    """Two in the journal, and one that only NRestarts tells of: three without a run that held."""
    from proofs.soak.exit_table import Exit

    looks.run = 3
    exits, started = [Exit("run-0", 10), Exit("run-1", 10)], ["run-1", "run-2", "run-3"]
    decisions = looks.look(exits=exits, started=started, lost=1)
    assert actions(decisions) == ["ENGINE_EXIT"] * 3 + ["ABORT"]
    assert looks.of.restarts == {"NETWORK": 2, "UNKNOWN": 1}


def test_stall_restarts_and_repeated_stall_aborts(looks: Looks) -> None:
    decisions: list[str] = []
    at_s: list[float] = []
    for _ in range(TRIES):
        for _ in range(int(STALL_S) + 1):
            latest = looks.look(tick=7, frame_age_s=60.0, counters_age_s=60.0)
            decisions += actions(latest)
            at_s += [looks.at_s] if latest else []
    assert [after - before for before, after in pairwise(at_s)] == [STALL_S] * (TRIES - 1)
    assert decisions == ["STALL", "ENGINE_RESTART"] * (TRIES - 1) + ["STALL", "ABORT"]
    assert looks.of.restarts["STALL"] == TRIES


@pytest.mark.parametrize(
    ("ages", "stalls"),
    [
        ({"frame_age_s": 1.0, "counters_age_s": 1.0}, False),  # a quiet market
        ({"frame_age_s": 99.0, "counters_age_s": 1.0, "feed_down": True}, False),  # the engine says 10 by itself
        ({"frame_age_s": 99.0, "counters_age_s": 1.0}, True),  # it believes itself connected, and hears nothing
        ({"frame_age_s": 1.0, "counters_age_s": 99.0}, True),  # nothing is written any more
        ({"frame_age_s": 99.0, "counters_age_s": 99.0, "feed_down": True}, True),
        ({"frame_age_s": inf, "counters_age_s": inf}, True),  # unknown is no excuse
    ],
)
def test_stall_or_quiet_market(looks: Looks, ages: dict[str, object], stalls: bool) -> None:
    decisions = [action for _ in range(int(STALL_S) + 2) for action in actions(looks.look(tick=7, **ages))]
    assert ("STALL" in decisions) is stalls


def test_unit_that_is_down_is_no_stall(looks: Looks) -> None:
    looks.look()
    for _ in range(int(STALL_S) * 2):
        assert looks.look(active="activating", running=False, tick=7, counters_age_s=inf) == []


def test_engine_decisions_are_passed_on_with_their_pressure(looks: Looks) -> None:
    logonly = {**THROTTLE, "action": "PSI_LOGONLY", "would": "ABORT"}
    decisions = looks.look(pressure=[THROTTLE, logonly])
    assert actions(decisions) == ["THROTTLE_UP", "PSI_LOGONLY"]
    assert [decision.pressure for decision in decisions] == [THROTTLE, logonly]
    assert "it would ABORT" in decisions[1].reason
    assert not looks.of.outcome


def test_engine_abort_ends_the_soak(looks: Looks) -> None:
    assert actions(looks.look(pressure=[{**THROTTLE, "action": "ABORT"}, THROTTLE])) == ["ABORT"]
    assert looks.of.outcome == "ABORT"


def test_stop_request_and_abort_file_end_the_soak(looks: Looks) -> None:
    assert actions(looks.look(stop=True, abort=True)) == ["STOP"]
    assert actions(Looks().look(abort=True)) == ["ABORT"]
