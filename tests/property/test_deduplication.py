"""The remembered trades are the newest ones, in whatever order they arrived; another content is another trade."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_engine.domain import deduplication
from hybrid_engine.domain.deduplication import RecentIds
from hybrid_engine.domain.events import MarketTrade

# Mostly ascending ids, with repeats, late ones, leaps, restarts, and trades without an id.
steps = st.one_of(
    st.tuples(st.just("next"), st.integers(1, 12)),
    st.tuples(st.just("next"), st.integers(1, 12)),
    st.tuples(st.just("back"), st.integers(0, 12)),
    st.tuples(st.just("anew"), st.integers(0, 2**63 - 1)),
    st.tuples(st.just("none"), st.just(0)),
)


@pytest.mark.holds("MEMORY", "IDENTITY")
@settings(max_examples=300)
@given(
    st.lists(st.lists(st.tuples(steps, st.sampled_from([1.0, 1.0, 2.0])), min_size=1, max_size=12), max_size=40),
    st.integers(1, 9),
    st.sampled_from([0, 0, 3]),
)
def test_recent_ids_are_the_last_ones(
    script: list[list[tuple[tuple[str, int], float]]], remembered: int, spare: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deduplication, "REMEMBERED_IDS", remembered)
        patch.setattr(deduplication, "SPARE_IDS", spare)
        known, new = RecentIds(), list[MarketTrade]()
        last = reused = 0
        for put in script:
            trades = []
            for (what, number), price in put:
                last = min(max({"next": last + number, "back": last - number}.get(what, number), 0), 2**63 - 1)
                trades.append(MarketTrade("BTCUSD", price, 1.0, None if what == "none" else last, 1))
            sifted = deque(known.filter_duplicates(list(trades)))
            for item in trades:
                passed = bool(sifted) and sifted[0] is item
                if passed:
                    sifted.popleft()
                if item.exchange_id is None:
                    assert passed
                    continue
                if item in new[-remembered:]:
                    assert not passed
                elif item not in new[-remembered - spare :]:
                    assert passed
                if passed:
                    reused += item.exchange_id in [one.exchange_id for one in new[-remembered:]]
                    new.append(item)
            assert not sifted
            assert known.reused >= reused  # of those remembered beside, as spares, it may know more
            assert len(known._ids) == len(known._digests) <= remembered + spare
            assert list(known._ids) == [one.exchange_id for one in new[len(new) - len(known._ids) :]]
