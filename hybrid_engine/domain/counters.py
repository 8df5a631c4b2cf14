"""Counters: the terms of the accounting at admission, what the later stages count, and the state of the feed.

At any moment: received == sampled_out + rejected + duplicate + dropped + waiting + admitted. No term is computed from
the others. The field names are those of the heartbeat's log fields and of the columns of `runs`.
"""

from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class AdmissionCounters:
    """The terms of the accounting. The unit is one trade; `waiting` is the number of ticks in the tick channel.

    Owned by the admission queue and read and written under its lock only, so that every snapshot balances.
    """

    received: int = 0
    sampled_out: int = 0
    rejected: int = 0
    duplicate: int = 0
    dropped: int = 0
    waiting: int = 0
    admitted: int = 0
    missed: int = 0  # not a term: sequence numbers that the exchange used and that never arrived


@dataclass(slots=True)
class StageCounters:
    """What the stages behind admission count. Each field is written by exactly one thread, named in its comment."""

    signal_count: int = 0  # strategy
    orders: int = 0  # execution: every order, vetoed ones included
    shadow_orders: int = 0  # execution: orders recorded in SHADOW mode, without the vetoed ones
    trade_count: int = 0  # execution
    risk_vetoes: int = 0  # execution
    persist_count: int = 0  # persist: rows committed
    persist_errors: int = 0  # persist: failed attempts to commit, without locks
    lock_waits: int = 0  # persist: attempts that met a lock
    ticks_stored: int = 0  # persist: ticks committed
    signals_stored: int = 0  # persist
    orders_stored: int = 0  # persist
    trades_stored: int = 0  # persist
    rows_expired: int = 0  # persist: rows deleted because they were older than retention_days


@dataclass(slots=True)
class FeedState:
    """The state of the sources; written by ingest, read by the heartbeat and by persist."""

    source: str = ""  # the active source, several when symbols have different ones, "" when there is none
    last_frame_ms: int | None = None
    source_failures: int = 0
    sources_connected: int = 0
    dead_count: int = 0  # times a source was left because nothing at all arrived
    stale_count: int = 0  # times a source was left because it did not trade while another one did
    quiet_count: int = 0  # times the market of a symbol was found quiet: not a fault, the source stayed
    moves: int = 0  # planned: to a new connection before the old one ends, or back to a better source
    sources: dict[str, str] = field(default_factory=dict)  # the state of each source; replaced as a whole


def heartbeat_fields(admission: AdmissionCounters, stages: StageCounters, feed: FeedState) -> dict[str, object]:
    """The counters as log fields of HEARTBEAT and FINAL METRICS: first under their older names, then one by one."""
    values: dict[str, object] = {
        "tick_count": admission.admitted,
        "ingest_received": admission.received,
        "ingest_processed": admission.admitted,
        "bp_drops_tick": admission.dropped,
        # Behind admission every stage blocks and none drops, so nothing can raise these two.
        "bp_drops_signal": 0,
        "bp_drops_persist": 0,
    }
    for part in (stages, admission, feed):
        values.update((item.name, getattr(part, item.name)) for item in fields(part))
    return values
