"""What the engine counts: the terms of the accounting at admission, what the later stages count, the feed's state.

`Books` is owned by admission and only touched under its lock, so that one snapshot balances at any moment:
received == sampled_out + rejected + duplicate + dropped + waiting + admitted. No term is computed from the others.
"""

from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class AdmissionCounters:
    """The front door's counters. The unit is one trade of the market; `waiting` is what stands in the channel."""

    received: int = 0
    sampled_out: int = 0
    rejected: int = 0
    duplicate: int = 0
    dropped: int = 0
    waiting: int = 0
    admitted: int = 0
    missed: int = 0  # no term: numbers that the exchange gave and that never came


@dataclass(slots=True)
class StageCounters:
    """What the stages behind the door count; each field has exactly one thread that writes it."""

    signal_count: int = 0  # strategy
    orders: int = 0  # execution: every order, vetoes included
    shadow_orders: int = 0  # execution: orders recorded in SHADOW mode, vetoes excluded
    trade_count: int = 0  # execution
    risk_vetoes: int = 0  # execution
    persist_count: int = 0  # persist: rows committed
    persist_errors: int = 0  # persist: failed tries to commit, locks excluded
    lock_waits: int = 0  # persist: tries that met a lock
    ticks_stored: int = 0  # persist: ticks committed
    signals_stored: int = 0  # persist
    orders_stored: int = 0  # persist
    trades_stored: int = 0  # persist
    rows_expired: int = 0  # persist: rows deleted because they are older than retention_days


@dataclass(slots=True)
class FeedState:
    """What ingest knows of its sources; written by ingest, read by the heartbeat and the writer."""

    source: str = ""  # the source in use, several where they lead different symbols, "" when none
    last_frame_ms: int | None = None
    source_failures: int = 0
    sources_connected: int = 0
    dead_count: int = 0  # times a source was left because nothing came at all
    stale_count: int = 0  # times one was left because it did not trade while another did
    quiet_count: int = 0  # times a symbol's market was found quiet: no fault, nobody moved
    moves: int = 0  # planned: to a new connection before the old one ends, back to a better source
    sources: dict[str, str] = field(default_factory=dict)  # the state of each; replaced as a whole


def report(books: AdmissionCounters, counters: StageCounters, feed: FeedState) -> dict[str, object]:
    """The fields of HEARTBEAT and FINAL METRICS: the first system's names, then the books term by term."""
    names: dict[str, object] = {
        "tick_count": books.admitted,
        "ingest_received": books.received,
        "ingest_processed": books.admitted,
        "bp_drops_tick": books.dropped,
        # Past the door every stage blocks and none drops, so these two have nothing that could raise them.
        "bp_drops_signal": 0,
        "bp_drops_persist": 0,
    }
    for part in (counters, books):
        names.update({f.name: getattr(part, f.name) for f in fields(part)})
    names.update((f.name, getattr(feed, f.name)) for f in fields(feed))
    return names
