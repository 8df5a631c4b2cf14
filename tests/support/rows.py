"""Rows for a store, without the stages that would create them."""

from __future__ import annotations

from hybrid_engine.domain.accounting import AdmissionCounters, FeedState, Gap, StageCounters
from hybrid_engine.domain.events import Order, Signal, Tick, Trade
from hybrid_engine.storage.store import Batch, Store

# What the writer's connection has at any moment of a run.
IN_FORCE = {"journal_mode": "wal", "synchronous": 1, "temp_store": 2, "foreign_keys": 1, "busy_timeout": 250}


def in_force(store: Store) -> dict[str, object]:
    """These PRAGMAs as the store's own connection has them."""
    return {name: store._con.execute(f"PRAGMA {name}").fetchone()[0] for name in IN_FORCE}


def chains(first: int, count: int, received_ms: int, exchange_ms: int, every: int = 1) -> Batch:
    """`count` ticks from id `first` on; each `every`-th caused a signal, an order and a trade."""
    created = Batch()
    for number in range(first, first + count):
        tick = Tick(number, "s", "X", 1.5, 2.0, number, exchange_ms, received_ms)
        created.ticks.append(tick)
        if number % every == 0:
            created.signals.append(Signal.of(tick, "BUY", 0.1, "R", 0.5))
            created.orders.append(Order(number, "X", "BUY", 0.1, 1.5, "FILLED", "R", "SHADOW", received_ms))
            created.trades.append(Trade(number, "X", "BUY", 0.1, 1.5, 0.00015, received_ms))
    return created


def batch(first: int, count: int = 1) -> Batch:
    """`count` whole chains."""
    return chains(first, count, received_ms=11, exchange_ms=10)


def write(store: Store, created: Batch, *gaps: Gap) -> None:
    books = AdmissionCounters(received=len(created.ticks), admitted=len(created.ticks))
    store.write(created, books, StageCounters(), FeedState(last_frame_ms=5), gaps)
