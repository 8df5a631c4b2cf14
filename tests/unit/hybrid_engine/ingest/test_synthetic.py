"""The random walk: the seed determines it, and its bounds hold."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

from hybrid_engine.ingest.synthetic import random_walk


@pytest.mark.holds("REPLAY")
def test_seed_determines_the_prices() -> None:
    one, again, other = (list(islice(random_walk(seed, 100.0, 0.5), 1000)) for seed in (7, 7, 8))
    assert one == again
    assert one != other
    assert one[0] == 100.0
    assert all(abs(after - before) <= 0.5 + 1e-8 for before, after in pairwise(one))


def test_price_stays_above_a_hundredth_of_the_start() -> None:
    assert min(islice(random_walk(1, 1.0, 10.0), 1000)) == 0.01
