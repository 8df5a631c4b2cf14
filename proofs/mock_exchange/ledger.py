"""Counts of what was sent, taken where it happened; none is computed from another."""

import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any

from proofs.mock_exchange.protocols.base import Trade

#: So many connections and accepts are listed one by one; the sums count all of them.
REMEMBERED = 2000
#: So many of the newest trades are listed one by one.
REMEMBERED_TRADES = 100_000


def now_ms() -> int:
    """Wall clock, milliseconds UTC."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class ConnectionCount:
    """One connection: times in ms UTC, trades and noise in frames or trades as the name says."""

    id: int
    path: str
    protocol: str
    accepted_ms: int
    accepted_mono_ns: int
    subscribed_ms: int | None = None
    closed_ms: int | None = None
    close_code: int | None = None
    open: bool = True
    symbols: list[str] = field(default_factory=list)
    sent: int = 0
    sent_by_symbol: dict[str, int] = field(default_factory=dict)
    first_number: int | None = None
    last_number: int | None = None
    first_sent_ms: int | None = None
    last_sent_ms: int | None = None
    history: int = 0
    noise: int = 0
    heartbeats: int = 0
    garbage: int = 0
    repeats: int = 0
    notices: int = 0
    heard: int = 0


class Ledger:
    """The sums over all connections, and the connections."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.by_symbol: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.accepted = 0
        self.requests = 0  # to upgrade
        self.tls_hellos = 0
        self.accepts_ms: deque[int] = deque(maxlen=REMEMBERED)
        self.requests_ms: deque[int] = deque(maxlen=REMEMBERED)
        self.connections: deque[ConnectionCount] = deque(maxlen=REMEMBERED)
        self.open: dict[int, ConnectionCount] = {}
        self.trades: deque[tuple[int, Trade]] = deque(maxlen=REMEMBERED_TRADES)  # with their connections

    def record_accept(self, path: str, protocol: str) -> ConnectionCount:
        self.accepted += 1
        count = ConnectionCount(self.accepted, path, protocol, now_ms(), time.monotonic_ns())
        self.accepts_ms.append(count.accepted_ms)
        self.connections.append(count)
        self.open[count.id] = count
        return count

    def record_close(self, count: ConnectionCount, code: int | None) -> None:
        count.open, count.closed_ms, count.close_code = False, now_ms(), code
        self.open.pop(count.id, None)

    def record_sent(self, count: ConnectionCount, trade: Trade, symbol: str) -> None:
        """An open socket took that trade."""
        self.trades.append((count.id, trade))
        count.sent += 1
        count.sent_by_symbol[symbol] = count.sent_by_symbol.get(symbol, 0) + 1
        count.last_number, count.last_sent_ms = trade.number, now_ms()
        if count.first_number is None:
            count.first_number, count.first_sent_ms = trade.number, count.last_sent_ms
        self.totals["sent"] += 1
        self.by_symbol[symbol] += 1

    def add(self, count: ConnectionCount, kind: str) -> None:
        """Count a frame without a new trade (history, noise, heartbeats, garbage, repeats, notices), or one heard."""
        setattr(count, kind, getattr(count, kind) + 1)
        self.totals[kind] += 1

    def as_dict(self) -> dict[str, Any]:
        names = ("sent", "history", "noise", "heartbeats", "garbage", "repeats", "notices", "lost", "heard")
        return {
            **{name: self.totals[name] for name in names},
            "sent_by_symbol": dict(self.by_symbol),
            "requests": self.requests,
            "requests_ms": list(self.requests_ms),
            "accepted": self.accepted,
            "accepts_ms": list(self.accepts_ms),
            "rejected": sum(self.rejected.values()),
            "rejected_by_status": dict(self.rejected),
            "tls_hellos": self.tls_hellos,
            "open": len(self.open),
            "subscribed": sum(one.subscribed_ms is not None for one in self.open.values()),
            "connections": [asdict(one) for one in self.connections],
        }
