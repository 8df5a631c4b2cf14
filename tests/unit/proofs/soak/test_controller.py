"""What the soak decides, row by row of the table of exits, and between the rows."""

from __future__ import annotations

from itertools import pairwise

import pytest

from proofs.soak.controller import Does
from proofs.soak.exit_table import EXITS, LADDER, REPEATED, TRIES
from tests.support.soaking import STALL_S, Looks, actions, controller

THROTTLE = {"message": "pressure decision", "action": "THROTTLE_UP", "reason": "cpu 30 > 20", "psi": {}, "host_psi": {}}


@pytest.fixture
def looks() -> Looks:
    return Looks()


def test_an_engine_at_work_is_left_alone_until_the_time_is_over() -> None:
    looks = Looks(controller(seconds=5.0))
    for _ in range(4):
        assert looks.look() == []
    (last,) = looks.look()
    assert (last.action, last.does, looks.of.over) == ("COMPLETE", Does.END, "COMPLETE")
    assert looks.look() == [], "nothing is decided any more"


@pytest.mark.parametrize(
    ("status", "decided", "does"),
    [
        (10, ["ENGINE_EXIT"], Does.NOTHING),
        (11, ["ENGINE_EXIT"], Does.NOTHING),
        (12, ["ENGINE_EXIT", "ABORT"], Does.END),
        (13, ["ENGINE_EXIT", "THROTTLE_UP"], Does.SAMPLE),
        (14, ["ENGINE_EXIT", "ABORT"], Does.END),
        (1, ["ENGINE_EXIT", "ABORT"], Does.END),
        (2, ["ENGINE_EXIT", "ABORT"], Does.END),
        (255, ["ENGINE_EXIT", "ABORT"], Does.END),
        (-9, ["ENGINE_EXIT"], Does.NOTHING),
        (None, ["ENGINE_EXIT"], Does.NOTHING),
    ],
)
def test_one_exit(looks: Looks, status: int | None, decided: list[str], does: Does) -> None:
    found = looks.ends(status)
    assert actions(found) == decided
    assert found[-1].does is does
    assert bool(looks.of.over) is (decided[-1] == "ABORT")


def test_every_code_of_the_interface_has_a_row() -> None:
    assert set(EXITS) == {0, 1, 10, 11, 12, 13, 14}


def test_an_engine_that_was_stopped_ends_the_soak_at_the_second_look(looks: Looks) -> None:
    assert looks.look(active="inactive", running=False) == []
    assert actions(looks.look(active="inactive", running=False)) == ["ENGINE_EXIT", "STOP"]


def test_a_unit_that_is_inactive_while_systemd_works_on_it_is_waited_for(looks: Looks) -> None:
    for _ in range(5):
        assert looks.look(active="inactive", running=False, busy=True) == []
    assert looks.look() == []


def test_a_unit_that_systemd_leaves_down_is_given_up(looks: Looks) -> None:
    assert actions(looks.ends(10, active="failed", running=False, started=[])) == ["ENGINE_EXIT"]
    assert actions(looks.look(active="failed", running=False)) == ["ABORT"]


def test_somebody_elses_restart_is_told_and_ends_nothing(looks: Looks) -> None:
    looks.look()
    looks.run = 1
    (told,) = looks.look(started=["run-1"])
    assert (told.action, looks.of.over, looks.of.restarts) == ("ENGINE_EXIT", "", {"BY HAND": 1})


def test_a_clean_exit_and_a_start_after_it_are_somebody_elses_restart(looks: Looks) -> None:
    assert actions(looks.ends(0, "")) == ["ENGINE_EXIT"]
    assert (looks.of.over, looks.of.restarts) == ("", {"BY HAND": 1})


@pytest.mark.parametrize("told", [True, False])
def test_what_the_soak_ended_itself_decides_nothing(looks: Looks, told: bool) -> None:
    """A stop that went well is not worth a line of the journal."""
    looks.of.ended_it("run-0")
    assert looks.ends(-9, "signal", **({} if told else {"exits": []})) == []
    assert not looks.of.restarts


@pytest.mark.parametrize("cause", [(10, "exit-code"), (-6, "watchdog"), (-9, "oom-kill"), (-11, "core-dump")])
def test_a_run_that_never_holds_is_given_up_and_one_that_holds_is_not(looks: Looks, cause: tuple[int, str]) -> None:
    for _ in range(TRIES - 1):
        assert actions(looks.ends(*cause)) == ["ENGINE_EXIT"]
    looks.hold()
    for _ in range(TRIES - 1):
        assert actions(looks.ends(*cause)) == ["ENGINE_EXIT"]
    assert actions(looks.ends(*cause)) == ["ENGINE_EXIT", "ABORT"]
    assert "no run held" in looks.of.why


def test_a_run_that_stores_nothing_has_not_held(looks: Looks) -> None:
    for _ in range(TRIES - 1):
        looks.ends(10, tick=500)
        for _ in range(int(STALL_S) + 2):  # the engine knows that there is no feed: that is no stall
            assert looks.look(tick=500, frame_age_s=99.0, feed_down=True) == []
    assert actions(looks.ends(10)) == ["ENGINE_EXIT", "ABORT"]


def test_repeated_11_falls_back_to_the_mock_and_one_that_held_between_does_not(looks: Looks) -> None:
    for _ in range(3):
        for _ in range(REPEATED - 1):
            assert actions(looks.ends(11)) == ["ENGINE_EXIT"]
        looks.hold()
    for _ in range(REPEATED - 1):
        looks.ends(11)
    found = looks.ends(11)
    assert actions(found) == ["ENGINE_EXIT", "ENGINE_RESTART"]
    assert found[-1].does is Does.MOCK
    assert looks.of.mock
    for _ in range(REPEATED - 1):  # the mock has tries of its own
        assert actions(looks.ends(11)) == ["ENGINE_EXIT"]


def test_11_of_the_mock_itself_is_the_end(looks: Looks) -> None:
    looks.of.mock = True
    for _ in range(REPEATED - 1):
        looks.ends(11)
    assert actions(looks.ends(11)) == ["ENGINE_EXIT", "ABORT"]


def test_11_among_others_never_held_either(looks: Looks) -> None:
    looks.ends(10)
    looks.ends(11)
    assert actions(looks.ends(10)) == ["ENGINE_EXIT", "ABORT"]


@pytest.mark.parametrize(("configured", "steps"), [(1, [5, 10, 20]), (5, [10, 20]), (7, [10, 20]), (20, []), (99, [])])
def test_each_13_is_a_step_and_none_is_left_at_the_top(configured: int, steps: list[int]) -> None:
    looks = Looks(controller(sample_every=configured))
    for step in steps:
        found = looks.ends(13)
        assert actions(found) == ["ENGINE_EXIT", "THROTTLE_UP"]
        assert (found[-1].does, looks.of.sample_every) == (Does.SAMPLE, step)
        looks.hold()
    assert actions(looks.ends(13)) == ["ENGINE_EXIT", "THROTTLE_MAX", "ABORT"]
    assert looks.of.sample_every == max([configured, *steps])


def test_the_ladder_is_the_engines() -> None:
    from hybrid_engine import pressure

    assert [(rung.sample_every, rung.name) for rung in pressure.LADDER] == list(LADDER)


def test_exits_between_two_looks_are_all_seen(looks: Looks) -> None:
    """Two in the journal, and one that only NRestarts tells of: three without a run that held."""
    from proofs.soak.exit_table import Exit

    looks.run = 3
    exits, started = [Exit("run-0", 10), Exit("run-1", 10)], ["run-1", "run-2", "run-3"]
    found = looks.look(exits=exits, started=started, lost=1)
    assert actions(found) == ["ENGINE_EXIT"] * 3 + ["ABORT"]
    assert looks.of.restarts == {"NETWORK": 2, "UNKNOWN": 1}


def test_a_standstill_is_a_restart_and_again_and_again_is_the_end(looks: Looks) -> None:
    found: list[str] = []
    at_s: list[float] = []
    for _ in range(TRIES):
        for _ in range(int(STALL_S) + 1):
            decided = looks.look(tick=7, frame_age_s=60.0, counters_age_s=60.0)
            found += actions(decided)
            at_s += [looks.at_s] if decided else []
    assert [after - before for before, after in pairwise(at_s)] == [STALL_S] * (TRIES - 1)
    assert found == ["STALL", "ENGINE_RESTART"] * (TRIES - 1) + ["STALL", "ABORT"]
    assert looks.of.stalls == TRIES


@pytest.mark.parametrize(
    ("ages", "stalls"),
    [
        ({"frame_age_s": 1.0, "counters_age_s": 1.0}, False),  # a quiet market
        ({"frame_age_s": 99.0, "counters_age_s": 1.0, "feed_down": True}, False),  # the engine says 10 by itself
        ({"frame_age_s": 99.0, "counters_age_s": 1.0}, True),  # it believes itself connected, and hears nothing
        ({"frame_age_s": 1.0, "counters_age_s": 99.0}, True),  # nothing is written any more
        ({"frame_age_s": 99.0, "counters_age_s": 99.0, "feed_down": True}, True),
        ({"frame_age_s": None, "counters_age_s": None}, True),  # unknown is no excuse
    ],
)
def test_what_is_a_standstill_and_what_is_a_quiet_market(looks: Looks, ages: dict[str, object], stalls: bool) -> None:
    found = [action for _ in range(int(STALL_S) + 2) for action in actions(looks.look(tick=7, **ages))]
    assert ("STALL" in found) is stalls


def test_a_unit_that_is_down_does_not_stand_still(looks: Looks) -> None:
    looks.look()
    for _ in range(int(STALL_S) * 2):
        assert looks.look(active="activating", running=False, tick=7, counters_age_s=None) == []


def test_the_engines_own_decisions_are_passed_on_with_their_pressure(looks: Looks) -> None:
    logonly = {**THROTTLE, "action": "PSI_LOGONLY", "would": "ABORT"}
    found = looks.look(pressure=[THROTTLE, logonly])
    assert actions(found) == ["THROTTLE_UP", "PSI_LOGONLY"]
    assert [decision.pressure for decision in found] == [THROTTLE, logonly]
    assert "it would ABORT" in found[1].reason
    assert not looks.of.over


def test_the_engines_abort_ends_the_soak(looks: Looks) -> None:
    assert actions(looks.look(pressure=[{**THROTTLE, "action": "ABORT"}, THROTTLE])) == ["ABORT"]
    assert looks.of.over == "ABORT"


def test_asked_to_stop_or_by_the_file_it_ends_at_once(looks: Looks) -> None:
    assert actions(looks.look(stop=True, abort=True)) == ["STOP"]
    assert actions(Looks().look(abort=True)) == ["ABORT"]
