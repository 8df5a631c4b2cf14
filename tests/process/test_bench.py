"""The benchmark measures what it says: every frame stored, each peer in each round. Nobody judges its figures."""

from __future__ import annotations

import pytest

from tests.benchmarks import race


def test_a_round_of_each_peer_has_its_figures() -> None:
    found = race.race(count=1000, rounds=1)
    assert (found["frames"], found["rounds"]) == (1000, 1)
    for peer in (race.ENGINE, race.BARE):
        assert 0 < found[peer]["least"] <= found[peer]["median_per_second"] <= found[peer]["most"]
    assert found[f"{race.ENGINE} : {race.BARE}"]["median"] > 0


def test_a_round_that_lost_a_frame_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "DEADLINE_S", 2.0)
    words, variables = race.command(race.BARE, "URL", race.HERE, 10, None)
    monkeypatch.setattr(race, "command", lambda peer, url, database, count, _: (
        [*words[:2], url, str(database), str(count - 1)], variables))  # fmt: skip
    with pytest.raises(race.Void, match="not every frame was stored"):
        race.once(race.BARE, 10)
