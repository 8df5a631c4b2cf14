"""How a source stands, and the lead of a symbol: what is decided upon. Times are monotonic seconds."""

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(slots=True, eq=False)
class SourceState:
    """One source as it stands. Of its connection: since when it is there, when it first and last said something that
    makes sense, when each symbol last traded. `ready_at` and `beside_at` as Patience says; `failed_at`: the last time.
    """

    name: str
    priority: int
    symbols: tuple[str, ...]
    ready_at: float = 0.0
    beside_at: float = 0.0
    failed_at: float = float("-inf")
    connecting_at: float | None = None
    connected_at: float | None = None
    useful_from: float | None = None
    heard_at: float = 0.0
    traded_at: dict[str, float] = field(default_factory=dict)

    def connected(self, now: float) -> None:
        self.connecting_at, self.connected_at, self.useful_from = None, now, None
        self.traded_at.clear()

    def gone(self) -> None:
        self.connecting_at = self.connected_at = self.useful_from = None
        self.traded_at.clear()

    @property
    def useful_s(self) -> float:
        return 0.0 if self.useful_from is None else self.heard_at - self.useful_from


class Rules(NamedTuple):
    stale_after_s: float
    failback_after_s: float
    hot: bool


class Change(NamedTuple):
    """`new` leads `symbol` from now on; why: "first", "stale" (the old one is), "better". `silent_since`: when the old
    one last traded, or began to lead."""

    symbol: str
    old: SourceState | None
    new: SourceState
    why: str
    silent_since: float


@dataclass(slots=True)
class ActiveSource:
    """The lead of one symbol. `quiet`: nobody traded for stale_after_s; `left`: sources left as stale, and when."""

    leader: SourceState | None = None
    since: float = 0.0
    quiet: bool = False
    quiet_at: float = 0.0
    left: dict[str, float] = field(default_factory=dict)
    fresh_from: dict[str, float] = field(default_factory=dict)
    suspect_since: float | None = None
    probe: SourceState | None = None
    probe_until: float = 0.0
    next_probe_at: float = 0.0
    probe_wait_s: float = 0.0
    turn: int = 0
