"""What holds of the soak's decisions whatever is seen, in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proofs.soak.controller import Decision
from proofs.soak.exit_table import LADDER, REPEATED, TRIES
from tests.support.soaking import Looks, actions, controller

ENDS = st.sampled_from([0, 1, 10, 11, 12, 13, 14, 77, -9, -6, None])
STEPS = st.lists(st.one_of(st.just("look"), st.just("hold"), st.just("quiet"), ENDS), max_size=40)
ACTIONS = {
    "STARTUP",
    "ENGINE_RESTART",
    "STALL",
    "ENGINE_EXIT",
    "PSI_LOGONLY",
    "THROTTLE_UP",
    "THROTTLE_DOWN",
    "THROTTLE_MAX",
    "ABORT",
    "STOP",
    "COMPLETE",
    "ENGINE_STOP",
}


def played(steps: list[object]) -> tuple[Looks, list[list[Decision]]]:
    looks, decisions = Looks(controller(seconds=1e9)), []
    for step in steps:
        if step == "hold":
            decisions += [looks.look() for _ in range(12)]
        elif step in ("look", "quiet"):
            decisions.append(looks.look(**({"tick": 3} if step == "quiet" else {})))
        else:
            decisions.append(looks.ends(step))  # type: ignore[arg-type]
    return looks, decisions


@given(STEPS)
def test_it_ends_once_and_says_nothing_after(steps: list[object]) -> None:
    looks, decisions = played(steps)
    every = [action for decided in decisions for action in actions(decided)]
    assert set(every) <= ACTIONS
    ends = [action for action in every if action in ("ABORT", "STOP", "COMPLETE")]
    assert ends == ([looks.of.outcome] if looks.of.outcome else [])
    assert every[-1:] == ends or not ends


@given(STEPS)
def test_whatever_a_restart_cannot_mend_is_the_end(steps: list[object]) -> None:
    looks, _ = played(steps)
    assert looks.of.outcome == "ABORT" or not {1, 12, 14, 77} & {step for step in steps if isinstance(step, int)}


@given(STEPS)
def test_no_run_that_never_holds_goes_on_for_ever(steps: list[object]) -> None:
    """But for the steps of the ladder, of which there are so many, and the one way out of 11."""
    looks, _ = played([step for step in steps if step != "hold" and step != "look" and step != "quiet" and step != 0])
    if not looks.of.outcome:
        steps_up = looks.of.restarts["OVERLOAD"]
        others = sum(looks.of.restarts.values()) - steps_up
        assert steps_up <= len(LADDER) - 1
        assert others < TRIES + REPEATED + steps_up


@given(STEPS)
def test_sampling_only_ever_thins_out_and_stays_on_the_ladder(steps: list[object]) -> None:
    looks, decisions = Looks(controller(seconds=1e9)), []
    for step in steps:
        if isinstance(step, int):
            before = looks.of.sample_every
            looks.ends(step)
            decisions.append((before, looks.of.sample_every))
    assert all(before <= after for before, after in decisions)
    assert looks.of.sample_every in [every for every, _ in LADDER]
    assert looks.of.sample_every == LADDER[min(looks.of.restarts["OVERLOAD"], len(LADDER) - 1)][0]


@given(STEPS)
def test_every_end_is_counted_by_its_cause_until_it_is_over(steps: list[object]) -> None:
    looks, decisions = played(steps)
    exits = sum(action == "ENGINE_EXIT" for decided in decisions for action in actions(decided))
    assert sum(looks.of.restarts.values()) - looks.of.restarts["STALL"] == exits
