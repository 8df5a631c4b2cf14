"""Reports the state of the sources for HEARTBEAT: the active ones, and each one's state."""

from collections.abc import Sequence

from hybrid_engine.domain.counters import FeedState
from hybrid_engine.ingest.source_selector import SourceSelector
from hybrid_engine.ingest.source_state import SourceState
from hybrid_engine.runtime.log import Logger

log = Logger("hybrid_engine.ingest")


class SourceReport:
    """Writes the fields of `feed`, which the heartbeat reads: each is replaced as a whole."""

    def __init__(self, feed: FeedState, sources: Sequence[SourceState], selector: SourceSelector) -> None:
        self._feed = feed
        self._sources = sources
        self._active = selector.active
        self._quiet: set[str] = set()

    def update(self) -> None:
        quiet = {symbol for symbol, active in self._active.items() if active.quiet}
        for symbol in sorted(quiet - self._quiet):
            self._feed.quiet_count += 1
            log.info("quiet market: no source trades", symbol=symbol)
        self._quiet = quiet
        stale = {source for active in self._active.values() for source in active.stale_at}
        self._feed.sources = {
            source.name: source.describe(quiet=source.active_symbols <= quiet, stale=source in stale)
            for source in self._sources
        }
        self._feed.sources_connected = sum(source.session is not None for source in self._sources)
        self.update_active()

    def update_active(self) -> None:
        """Name the active sources at once: HEARTBEAT does not wait for the next `update`."""
        self._feed.source = ", ".join(source.name for source in self._sources if source.active_symbols)
