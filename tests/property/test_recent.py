"""The remembered trade ids are the last ones that came, in whatever order they came."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_engine import recent
from hybrid_engine.recent import Recent

# Mostly ascending, with repeats, what comes late, leaps, and numbers that begin anew.
steps = st.one_of(
    st.tuples(st.just("next"), st.integers(1, 12)),
    st.tuples(st.just("next"), st.integers(1, 12)),
    st.tuples(st.just("back"), st.integers(0, 12)),
    st.tuples(st.just("anew"), st.integers(0, 2**63 - 1)),
)


@pytest.mark.holds("MEMORY")
@settings(max_examples=300)
@given(st.lists(steps, max_size=120), st.integers(1, 9))
def test_it_knows_the_last_ones_and_no_others(script: list[tuple[str, int]], remembered: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recent, "REMEMBERED_IDS", remembered)
        known, simple = Recent(), deque[int](maxlen=remembered)
        last = 0
        for what, number in script:
            at = {"next": last + number, "back": last - number, "anew": number}[what]
            at = min(max(at, 0), 2**63 - 1)
            for asked in (at, last, at - 1, at + 1, 0):
                assert (asked in known) == (asked in simple), (asked, list(simple))
            if at not in known:
                known.add(at)
                simple.append(at)
                last = at
        assert len(known._ids) == len(simple)
