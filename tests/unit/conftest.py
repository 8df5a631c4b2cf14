"""Exchanges of the tests of the feed, and a feed in a hurry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybrid_engine.ingest import choice, feed, link
from tests.support.talker import Talker


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "GRACE_S", 0.1)
    monkeypatch.setattr(choice, "SLOW_CONNECT_S", 15.0)  # on a busy machine the best one leads first all the same
    monkeypatch.setattr(link, "OVERLAP_S", 0.1)
    monkeypatch.setattr(feed, "TEND_S", 0.02)


@pytest.fixture
def one() -> Iterator[Talker]:
    with Talker() as talker:
        yield talker


@pytest.fixture
def two() -> Iterator[Talker]:
    with Talker() as talker:
        yield talker
