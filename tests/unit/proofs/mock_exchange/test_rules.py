"""Faults for the next connections: how often a rule applies."""

from __future__ import annotations

from proofs.mock_exchange.market import Rules


def test_rule_applies_n_times() -> None:
    rules = Rules()
    rules.set("http", {"status": 451}, 2)
    rules.set("hang", {}, -1)
    assert [rules.take("http") for _ in range(3)] == [{"status": 451}, {"status": 451}, None]
    assert [rules.take("hang") for _ in range(3)] == [{}, {}, {}]
    rules.set("hang", {}, 0)
    assert rules.take("hang") is None
