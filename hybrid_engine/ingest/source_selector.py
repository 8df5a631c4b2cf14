"""Selects the active source of each symbol, and the sources to connect. It decides only: it neither waits nor connects.

It tells three silences of an active source apart (times are monotonic seconds):
- dead: nothing is received at all. The connection detects that, and the source is no longer connected here.
- stale: the source sends valid frames but no trades, while another source of the symbol trades. It is replaced.
- quiet: the source sends valid frames, and no source trades. That is a quiet market, and the source stays active. Where
  no other source is connected to compare with, one is probed for a limited time, at growing intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.ingest.source_state import SourceState

# Another source's trade counts against the active one only after this time, for that may be a little later.
GRACE_S = 1.0
# How long a probe lasts, and the longest pause between two.
PROBE_S = 15.0
LONGEST_PROBE_PAUSE_S = 3600.0
# The pause between probes resets once the market was not quiet for this many stale_after_s.
PROBE_RESET_FACTOR = 10
# A connection that takes longer than this to be made does not delay the next source.
SLOW_CONNECT_S = 1.0
# Where no source is active, one that failed this recently comes after those that did not.
RECENT_FAILURE_S = 30.0
# Why a source is to be connected, the strongest reason first.
PURPOSES = ("active", "needed", "better", "standby", "probe")


class SourceChange(NamedTuple):
    """`new` is the active source of `symbol` from now on.

    `reason`: "first" (none was active), "stale" (`old` is), "better" (`new` has the better priority).
    `silent_since`: the last trade of `old`, or when it became active.
    """

    symbol: str
    old: SourceState | None
    new: SourceState
    reason: str
    silent_since: float


@dataclass(slots=True)
class ActiveSource:
    """Selects the active source of one symbol among the `sources` that carry it, best first.

    - `source`: the active one, `since` when; `last_useful`: the source that was last active and useful;
    - `quiet`: no source traded for stale_after_s; `quiet_at`: when that was last so;
    - `stale_at`: the sources that were replaced as stale, and when, until they trade again; `fresh_at`: when they did;
    - `suspect_since`: when another source was first seen to trade while the active one did not;
    - `probe`: the source that is connected for a comparison, until `probe_until`.
    """

    symbol: str
    sources: list[SourceState]
    source: SourceState | None = None
    since: float = 0.0
    last_useful: SourceState | None = None
    quiet: bool = False
    quiet_at: float = 0.0
    stale_at: dict[SourceState, float] = field(default_factory=dict)
    fresh_at: dict[SourceState, float] = field(default_factory=dict)
    suspect_since: float | None = None
    probe: SourceState | None = None
    probe_until: float = 0.0
    next_probe_at: float = 0.0
    probe_pause_s: float = 0.0
    next_probe: int = 0

    def update(self, now: float, rules: EngineSettings) -> SourceChange | None:
        """Change the active source where that is due."""
        for source in self.sources:
            traded_at = source.traded_at.get(self.symbol, 0.0)
            if traded_at > self.stale_at.get(source, float("inf")):
                del self.stale_at[source]
                self.fresh_at[source] = traded_at
        old = self.source
        if old is not None and not old.carries(self.symbol):
            old = self.source = None
        new, reason = (self._first(now), "first") if old is None else self._replacement(old, now, rules)
        if new is None:
            return None
        silent_since = self.since if old is None else max(self.since, old.traded_at.get(self.symbol, 0.0))
        if old is not None and reason == "stale":
            self.stale_at[old] = now
        self.source, self.since = new, now
        self.quiet, self.suspect_since, self.probe = False, None, None
        return SourceChange(self.symbol, old, new, reason, silent_since)

    def _first(self, now: float) -> SourceState | None:
        """The best connected source; those that are not stale come first, and then those that are useful already."""
        connected: list[SourceState] = []
        for source in self.sources:
            if source.carries(self.symbol):
                connected.append(source)
            # At the very first, a better source that is just being connected is waited for.
            elif not (self.since or connected) and now - (source.connecting_at or -1e9) < SLOW_CONNECT_S:
                return None
        return min(connected, key=lambda s: (s in self.stale_at, s.useful_since is None), default=None)

    def _replacement(self, old: SourceState, now: float, rules: EngineSettings) -> tuple[SourceState | None, str]:
        """The source that is to replace `old`, and why."""
        silent_since = max(self.since, old.traded_at.get(self.symbol, 0.0))
        self.quiet = False
        if now - silent_since >= rules.stale_after_s:
            others = [s for s in self.sources if s is not old and s.carries(self.symbol)]
            trading = next((s for s in others if s.traded_at.get(self.symbol, 0.0) > silent_since), None)
            if trading is not None:
                self.suspect_since = self.suspect_since or now
                if now - self.suspect_since >= GRACE_S:
                    return trading, "stale"
            else:
                self.quiet, self.quiet_at, self.suspect_since = True, now, None
                self._update_probe(old, bool(others), now, rules)
        else:
            self.suspect_since = self.probe = None
            if now - self.quiet_at >= PROBE_RESET_FACTOR * rules.stale_after_s:
                self.probe_pause_s = self.next_probe_at = 0.0
        for source in self.sources:
            if source.priority >= old.priority:
                break
            if source not in self.stale_at and self._is_proven(source, old, rules):
                return source, "better"
        return None, ""

    def _update_probe(self, current: SourceState, comparable: bool, now: float, rules: EngineSettings) -> None:
        """End a probe that is over; begin one where no other source is connected: the others in turn, ever later."""
        if self.probe is not None and now >= self.probe_until:
            self.probe = None
        if self.probe is not None or comparable or now < self.next_probe_at:
            return
        others = [s for s in self.sources if s is not current]
        in_turn = others[self.next_probe :] + others[: self.next_probe]
        ready = next((s for s in in_turn if s.retry.retry_at <= now), None)
        if ready is None:
            return
        self.probe, self.next_probe = ready, (others.index(ready) + 1) % len(others)
        self.probe_until = now + min(PROBE_S, max(2 * GRACE_S, rules.stale_after_s))
        self.probe_pause_s = min(LONGEST_PROBE_PAUSE_S, max(2 * self.probe_pause_s, rules.stale_after_s))
        self.next_probe_at = self.probe_until + self.probe_pause_s

    def _is_proven(self, source: SourceState, current: SourceState, rules: EngineSettings) -> bool:
        """Whether `source` has been useful for failback_after_s and keeps up with the trades of `current`."""
        if not source.carries(self.symbol) or source.connected_at is None or source.useful_since is None:
            return False
        useful_since = max(source.useful_since, self.fresh_at.get(source, 0.0))
        if source.last_seen_at - useful_since < rules.failback_after_s:
            return False
        newest = current.traded_at.get(self.symbol, 0.0)
        if self.symbol in source.traded_at:
            return source.traded_at[self.symbol] >= newest - rules.stale_after_s
        return newest <= source.connected_at

    def requests(self, now: float, rules: EngineSettings) -> list[tuple[SourceState, str]]:
        """The sources to connect for the symbol, and why."""
        current = self.source
        if current is None:
            return [(source, "needed") for source in self._needed(now)]
        requests = [(current, "active")]
        trial_s = 1.25 * rules.failback_after_s + rules.stale_after_s
        for source in self.sources:
            if source.priority >= current.priority:
                break
            is_due = source.retry.trial_at <= now and current.useful_since is not None
            if source.connected_at is not None:  # on trial
                is_due = now - source.connected_at < trial_s and source.connected_at > self.stale_at.get(source, 0.0)
            if is_due or source.connecting_at is not None:
                requests.append((source, "better"))
        if rules.standby == "hot" and current.useful_since is not None:
            requests += [(source, "standby") for source in self._standbys(current, now)]
        if self.probe is not None:
            requests.append((self.probe, "probe"))
        return requests

    def _needed(self, now: float) -> list[SourceState]:
        """No source is active: those that are connected or connecting, and one more where they take long."""
        coming = [source for source in self.sources if not source.idle]
        if any(now - (source.connecting_at or -1e9) < SLOW_CONNECT_S for source in coming):
            return coming
        ready = [s for s in self.sources if s not in coming and s.retry.retry_at <= now]
        # The best first; those that failed recently last, in turn.
        ready.sort(key=lambda source: source.failed_at if now - source.failed_at < RECENT_FAILURE_S else 0.0)
        return coming + ready[:1]

    def _standbys(self, current: SourceState, now: float) -> list[SourceState]:
        """The next source, and until that one is useful any that stands by already."""
        standbys: list[SourceState] = []
        coming = False
        for source in (source for source in self.sources if source is not current):
            useful = source.useful_since is not None and source not in self.stale_at
            # A better source is tried at the pace of trials, not as a standby.
            may_connect = source.retry.retry_at <= now and source.priority >= current.priority and not coming
            if useful or may_connect or (not source.idle and not coming):
                standbys.append(source)
                coming = coming or source not in self.stale_at
            if useful:
                break
        return standbys


class SourceSelector:
    """`sources`: best first. After `decide`, `purposes` has the sources to connect and why."""

    def __init__(self, sources: Sequence[SourceState]) -> None:
        symbols = dict.fromkeys(symbol for source in sources for symbol in source.symbols)
        self.active = {name: ActiveSource(name, [s for s in sources if name in s.symbols]) for name in symbols}
        self.purposes: dict[SourceState, str] = {}

    def note_useful(self, source: SourceState) -> None:
        """An active source became useful, or a useful one active."""
        for symbol in source.active_symbols:
            self.active[symbol].last_useful = source

    def decide(self, now: float, rules: EngineSettings) -> list[SourceChange]:
        """Change the active sources where that is due, and renew `purposes`. Returns the changes."""
        changes = [c for active in self.active.values() if (c := active.update(now, rules)) is not None]
        requests = [request for active in self.active.values() for request in active.requests(now, rules)]
        # Of a source's purposes the strongest is the last one here, which stays.
        self.purposes = dict(sorted(requests, key=lambda request: PURPOSES.index(request[1]), reverse=True))
        return changes
