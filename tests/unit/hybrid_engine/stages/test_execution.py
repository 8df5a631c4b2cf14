"""Execution stores what the adapter returns and refuses an invalid status."""

from __future__ import annotations

from pathlib import Path

from hybrid_engine.config.settings import RiskCaps
from hybrid_engine.domain.events import FILLED, REJECTED, MarketTrade, Signal
from hybrid_engine.stages.adapter import Execution
from tests.support.accounting import check_finished, rows
from tests.support.pipeline import RunningStages, nothing


def market_trades(count: int) -> list[MarketTrade]:
    return [MarketTrade("X", 1.0 + n, 1.0, None, 1) for n in range(count)]


class Answers:
    """An adapter that returns these statuses, one for each order."""

    def __init__(self, *statuses: str) -> None:
        self._statuses = iter(statuses)

    def execute(self, signal: Signal, price: float) -> Execution:
        return Execution(next(self._statuses), "OF_TEST", price + 1, 0.25)


def test_adapter_result_is_stored(tmp_path: Path) -> None:
    caps = RiskCaps(max_exposure_usd=1e9, max_symbol_exposure_usd=1e9)
    adapter = Answers(FILLED, REJECTED)
    pipeline = RunningStages(tmp_path / "x.db", signal_every=1, tick_capacity=9, caps=caps, adapter=adapter)
    pipeline.admission.offer_trades("s", market_trades(2), 1, nothing)
    pipeline.close()
    check_finished(pipeline.db)
    last = rows(pipeline.db, "SELECT price FROM ticks ORDER BY id")
    query = "SELECT orders.id, status, reason, orders.price, trades.price, fee FROM orders LEFT JOIN trades USING (id)"
    assert rows(pipeline.db, query) == [
        (1, FILLED, "OF_TEST", last[0][0] + 1, last[0][0] + 1, 0.25),
        (2, REJECTED, "OF_TEST", last[1][0] + 1, None, None),
    ]


def test_invalid_adapter_status_ends_stage(tmp_path: Path) -> None:
    pipeline = RunningStages(tmp_path / "x.db", signal_every=1, adapter=Answers("MAYBE"))
    pipeline.admission.offer_trades("s", market_trades(1), 1, nothing)
    execution = pipeline.stages[1]
    execution.join(10)
    assert "returned status 'MAYBE'" in str(execution.failure)
    pipeline.close_store()
