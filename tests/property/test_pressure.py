"""The throttle ladder under any readings, limits and times between two readings."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.pressure import BLIND_AFTER_S, KINDS, TOP, ThrottleLadder, read_limits

seconds = st.floats(0, 30).map(lambda value: round(value, 1))
settings = st.builds(
    EngineSettings,
    psi_cpu_limit=st.floats(1, 100),
    psi_memory_limit=st.floats(1, 100),
    psi_io_limit=st.floats(1, 100),
    psi_trip_s=seconds,
    psi_calm_s=seconds,
    psi_cooldown_s=seconds,
    psi_give_up_s=seconds,
)
moods = st.sampled_from(("pressed", "calm", "between", "unknown"))


class Look(NamedTuple):
    """One reading: its time and mood, the level after it, and the decision."""

    now: float
    mood: str
    step: int
    action: str


@st.composite
def histories(draw: st.DrawFn) -> tuple[EngineSettings, list[Look]]:
    """Moods that last for a while, each turned into readings, and what the ladder decided."""
    engine = draw(settings)
    limits = read_limits(engine)
    ladder, now, looks = ThrottleLadder(), 0.0, []
    for mood in draw(st.lists(moods, min_size=1, max_size=12)):
        every = draw(st.sampled_from((0.5, 1.0, 1.3, BLIND_AFTER_S + 1)))
        kind = draw(st.sampled_from(KINDS))
        factor = {"pressed": 1.01, "calm": 0.49, "between": 0.75, "unknown": 0.0}[mood]
        avg10: dict[str, float | None] = dict.fromkeys(KINDS, 0.0)
        avg10[kind] = None if mood == "unknown" else limits[kind] * factor
        for _ in range(draw(st.integers(1, 40))):
            now += every
            decision = ladder.decide(now, avg10, engine)
            looks.append(Look(now, mood, ladder.level, decision.action if decision else ""))
    return engine, looks


def unbroken(looks: list[Look], at: int) -> float:
    """For how many seconds that reading's mood had lasted without interruption since the last step."""
    first = at
    while (
        first > 0
        and looks[first - 1].mood == looks[at].mood
        and looks[first].now - looks[first - 1].now <= BLIND_AFTER_S
        and not looks[first - 1].action.startswith(("THROTTLE_UP", "THROTTLE_DOWN"))
    ):
        first -= 1
    return looks[at].now - looks[first].now


@pytest.mark.holds("G2")
@given(histories())
def test_ladder_moves_one_step_with_reason(history: tuple[EngineSettings, list[Look]]) -> None:
    engine, looks = history
    step, stepped_at = 0, float("-inf")
    for at, look in enumerate(looks):
        moved = look.step - step
        assert moved == {"THROTTLE_UP": 1, "THROTTLE_DOWN": -1}.get(look.action, 0)
        assert 0 <= look.step <= TOP
        if look.action:
            lasted_s = unbroken(looks, at) + 1e-9
            rested = look.now - stepped_at >= engine.psi_cooldown_s
            needed_s, mood, from_top = {
                "THROTTLE_UP": (engine.psi_trip_s, "pressed", False),
                "THROTTLE_DOWN": (engine.psi_calm_s, "calm", None),
                "THROTTLE_MAX": (engine.psi_trip_s, "pressed", True),
                "ABORT": (engine.psi_give_up_s, "pressed", True),
            }[look.action]
            assert look.mood == mood
            assert lasted_s >= needed_s
            assert rested
            assert from_top is None or (step == TOP) is from_top
        if moved:
            stepped_at = look.now
        step = look.step


@given(histories())
def test_ladder_moves_when_due(history: tuple[EngineSettings, list[Look]]) -> None:
    engine, looks = history
    step, stepped_at = 0, float("-inf")
    for at, look in enumerate(looks):
        lasted_s, rested = unbroken(looks, at), look.now - stepped_at >= engine.psi_cooldown_s
        if look.mood == "pressed" and rested and step < TOP and lasted_s >= engine.psi_trip_s + 1e-9:
            assert look.action == "THROTTLE_UP"
        if look.mood == "calm" and rested and step > 0 and lasted_s >= engine.psi_calm_s + 1e-9:
            assert look.action == "THROTTLE_DOWN"
        if look.step != step:
            stepped_at = look.now
        step = look.step
