"""Who leads each symbol, and which sources are to be connected. Decides only: it neither waits nor connects.

Three silences (times are monotonic seconds):
- dead: nothing comes at all. Whoever reads the connection sees that, and it is no longer connected here.
- stale: the leader says things and does not trade while another source of the symbol does. It is left.
- quiet: the leader says things and nobody trades. That is a market. Nobody moves; where no other source is connected,
  one is asked for a bounded time, rarely.
"""

from collections.abc import Sequence

from hybrid_engine.ingest.source_state import ActiveSource, Change, Rules, SourceState

# A rival's trade says nothing against the leader until the leader had so long to report the same market.
GRACE_S = 1.0
# How long a rival is listened to before a silence is called quiet.
PROBE_S = 15.0
LONGEST_PROBE_WAIT_S = 3600.0
# Probes begin to come sooner again after so many stale_after_s in which the market was never quiet.
CALM = 10
# A connection that takes longer than this to be made does not hold up the next source.
SLOW_CONNECT_S = 1.0
# Where nobody leads, who failed so shortly ago comes after those who did not.
RECENT_S = 30.0


class SourceSelector:
    """`sources` best first. After `decide`, `wanted` says which are to be connected and why."""

    def __init__(self, sources: Sequence[SourceState]) -> None:
        self.leads: dict[str, ActiveSource] = {
            symbol: ActiveSource() for source in sources for symbol in source.symbols
        }
        self._of = {symbol: [s for s in sources if symbol in s.symbols] for symbol in self.leads}
        self.wanted: dict[str, str] = {}

    @property
    def shared(self) -> list[str]:
        """The symbols that several sources have."""
        return [symbol for symbol, sources in self._of.items() if len(sources) > 1]

    def leading(self, source: SourceState) -> list[str]:
        """The symbols that `source` leads."""
        return [symbol for symbol, lead in self.leads.items() if lead.leader is source]

    def decide(self, now: float, rules: Rules) -> list[Change]:
        """The changes of lead that are due, already made here, and `wanted` anew."""
        changes = [change for symbol in self.leads for change in self._changes(symbol, now, rules)]
        reasons: list[tuple[str, str]] = []
        for symbol, lead in self.leads.items():
            reasons += self._wants(symbol, lead, now, rules)
        self.wanted = {}
        for why in ("leads", "needed", "better", "standby", "probe"):
            for name, reason in reasons:
                if reason == why:
                    self.wanted.setdefault(name, why)
        return changes

    def _changes(self, symbol: str, now: float, rules: Rules) -> list[Change]:
        lead = self.leads[symbol]
        for source in self._of[symbol]:
            traded = source.traded_at.get(symbol, 0.0)
            if traded > lead.left.get(source.name, float("inf")):
                del lead.left[source.name]
                lead.fresh_from[source.name] = traded
        old = lead.leader
        if old is not None and old.connected_at is None:
            old = lead.leader = None
        new, why = (
            (self._first(symbol, lead, now), "first") if old is None else self._other(symbol, lead, old, now, rules)
        )
        if new is None:
            return []
        silent_since = lead.since
        if old is not None:
            silent_since = max(silent_since, old.traded_at.get(symbol, 0.0))
            if why == "stale":
                lead.left[old.name] = now
        lead.leader, lead.since, lead.quiet, lead.suspect_since, lead.probe = new, now, False, None, None
        return [Change(symbol, old, new, why, silent_since)]

    def _first(self, symbol: str, lead: ActiveSource, now: float) -> SourceState | None:
        """The best that is connected: rather one that was not left as stale, rather one that has said something.

        At the very first a better one that is just being connected is waited for.
        """
        able = []
        for source in self._of[symbol]:
            if source.connected_at is not None:
                able.append(source)
            elif not (lead.since or able) and now - (source.connecting_at or -1e9) < SLOW_CONNECT_S:
                return None
        return min(able, key=lambda s: (s.name in lead.left, s.useful_from is None), default=None)

    def _other(
        self, symbol: str, lead: ActiveSource, old: SourceState, now: float, rules: Rules
    ) -> tuple[SourceState | None, str]:
        silent_since = max(lead.since, old.traded_at.get(symbol, 0.0))
        lead.quiet = False
        if now - silent_since >= rules.stale_after_s:
            rivals = [s for s in self._of[symbol] if s is not old and s.connected_at is not None]
            trading = next((s for s in rivals if s.traded_at.get(symbol, 0.0) > silent_since), None)
            if trading is not None:
                lead.suspect_since = lead.suspect_since or now
                if now - lead.suspect_since >= GRACE_S:
                    return trading, "stale"
            else:
                lead.quiet, lead.quiet_at, lead.suspect_since = True, now, None
                self._ask_a_rival(symbol, lead, old, bool(rivals), now, rules)
        else:
            lead.suspect_since = lead.probe = None
            if now - lead.quiet_at >= CALM * rules.stale_after_s:
                lead.probe_wait_s = lead.next_probe_at = 0.0
        for source in self._of[symbol]:
            if source.priority >= old.priority:
                break
            if source.name not in lead.left and self._proven(symbol, lead, source, old, rules):
                return source, "better"
        return None, ""

    def _ask_a_rival(
        self, symbol: str, lead: ActiveSource, leader: SourceState, heard: bool, now: float, rules: Rules
    ) -> None:
        """Begin and end probes: one rival at a time, each time the next one, each time later."""
        if lead.probe is not None and now >= lead.probe_until:
            lead.probe = None
        if lead.probe is not None or heard or now < lead.next_probe_at:
            return
        rivals = [s for s in self._of[symbol] if s is not leader]
        able = [s for s in rivals[lead.turn :] + rivals[: lead.turn] if s.ready_at <= now]
        if not able:
            return
        lead.probe, lead.turn = able[0], (rivals.index(able[0]) + 1) % len(rivals)
        lead.probe_until = now + min(PROBE_S, max(2 * GRACE_S, rules.stale_after_s))
        lead.probe_wait_s = min(LONGEST_PROBE_WAIT_S, max(2 * lead.probe_wait_s, rules.stale_after_s))
        lead.next_probe_at = lead.probe_until + lead.probe_wait_s

    def _proven(self, symbol: str, lead: ActiveSource, source: SourceState, leader: SourceState, rules: Rules) -> bool:
        """Whether `source` has been useful for long enough, and keeps up with the leader's market."""
        if source.connected_at is None or source.useful_from is None:
            return False
        if source.heard_at - max(source.useful_from, lead.fresh_from.get(source.name, 0.0)) < rules.failback_after_s:
            return False
        newest = leader.traded_at.get(symbol, 0.0)
        if symbol in source.traded_at:
            return source.traded_at[symbol] >= newest - rules.stale_after_s
        return newest <= source.connected_at

    def _wants(self, symbol: str, lead: ActiveSource, now: float, rules: Rules) -> list[tuple[str, str]]:
        if lead.leader is None:
            return [(name, "needed") for name in self._needed(symbol, now)]
        found: list[tuple[str, str]] = []
        found.append((lead.leader.name, "leads"))
        trial_s = 1.25 * rules.failback_after_s + rules.stale_after_s
        for source in self._of[symbol]:
            if source.priority >= lead.leader.priority:
                break
            if source.connected_at is not None:
                wanted = now - source.connected_at < trial_s and source.connected_at > lead.left.get(source.name, 0.0)
            elif source.connecting_at is not None:
                wanted = True
            else:
                wanted = source.beside_at <= now and lead.leader.useful_from is not None
            if wanted:
                found.append((source.name, "better"))
        if rules.hot and lead.leader.useful_from is not None:
            found += [(name, "standby") for name in self._standbys(symbol, lead, lead.leader, now)]
        if lead.probe is not None:
            found.append((lead.probe.name, "probe"))
        return found

    def _needed(self, symbol: str, now: float) -> list[str]:
        """Nobody leads: whoever is on the way, and another one where those take their time."""
        coming = [source for source in self._of[symbol] if _there(source)]
        if any(now - (source.connecting_at or -1e9) < SLOW_CONNECT_S for source in coming):
            return [source.name for source in coming]
        ready = [source for source in self._of[symbol] if source not in coming and source.ready_at <= now]
        # Best first, and in turn those that failed just now.
        ready.sort(key=lambda source: source.failed_at if now - source.failed_at < RECENT_S else 0.0)
        return [source.name for source in coming + ready[:1]]

    def _standbys(self, symbol: str, lead: ActiveSource, leader: SourceState, now: float) -> list[str]:
        """The next source, and until that one is of use whoever stands by already."""
        found: list[str] = []
        coming = False
        for source in self._of[symbol]:
            if source is leader:
                continue
            of_use = source.useful_from is not None and source.name not in lead.left
            # A better one is tried at the pace that is meant for those.
            may_come = source.ready_at <= now and source.priority >= leader.priority and not coming
            if of_use or may_come or (_there(source) and not coming):
                found.append(source.name)
                coming = coming or source.name not in lead.left
            if of_use:
                break
        return found


def _there(source: SourceState) -> bool:
    """Connected, or about to be."""
    return source.connected_at is not None or source.connecting_at is not None
