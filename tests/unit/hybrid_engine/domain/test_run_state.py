"""The state of a run survives its column, and no content of a column ends a reader."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from hybrid_engine.domain.run_state import MAX_NAMED, RunState, UnfedSymbol, read_run_state

UNFED = st.builds(UnfedSymbol, st.text(), st.text(), st.text(), st.integers(0, 2**53), st.text())
STATES = st.builds(
    RunState, st.lists(UNFED, max_size=2 * MAX_NAMED).map(tuple), st.just(0), st.dictionaries(st.text(), st.integers())
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.sampled_from(["unfed", "holds", "unnamed", "x"]), part),
)


@given(STATES)
def test_state_is_read_as_it_was_written(state: RunState) -> None:
    unfed = state.unfed[:MAX_NAMED]
    assert read_run_state(state.as_json()) == (unfed, len(state.unfed) - len(unfed), state.holds)


@given(st.none() | st.text() | JSON.map(json.dumps))
def test_anything_else_is_an_empty_state(text: str | None) -> None:
    assert isinstance(read_run_state(text), RunState)
