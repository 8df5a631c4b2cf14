"""How the sources stand, for the heartbeat."""

from collections.abc import Mapping

from hybrid_engine.domain.counters import FeedState
from hybrid_engine.ingest.source_connection import SourceConnection
from hybrid_engine.ingest.source_selector import SourceSelector
from hybrid_engine.runtime.log import Logger

log = Logger("hybrid_engine.ingest")


class SourceReport:
    """Writes `feed`; remembers what a look at this moment would not tell."""

    def __init__(self, feed: FeedState, links: Mapping[str, SourceConnection], choice: SourceSelector) -> None:
        self._feed = feed
        self._links = links
        self._choice = choice
        self._quiet: set[str] = set()
        self._last_leader: dict[str, str] = {}

    def remember(self) -> None:
        """Whom each symbol was last heard from. Also to be called before a source is gone."""
        for symbol, lead in self._choice.leads.items():
            if lead.leader is not None and lead.leader.useful_from is not None:
                self._last_leader[symbol] = lead.leader.name

    def look(self) -> None:
        """How things stand now."""
        self.remember()
        leads = self._choice.leads
        for symbol, lead in leads.items():
            if lead.quiet and symbol not in self._quiet:
                self._feed.quiet_count += 1
                log.info("quiet: nobody trades", symbol=symbol)
        self._quiet = {symbol for symbol, lead in leads.items() if lead.quiet}
        states = {}
        for name, link in self._links.items():
            own = self._choice.leading(link.standing)
            stale = any(name in lead.left for lead in leads.values())
            states[name] = link.state(bool(own), self._quiet.issuperset(own), stale)
        self._feed.sources = states
        self._feed.sources_connected = sum(link.session is not None for link in self._links.values())
        self.name_leaders()

    def name_leaders(self) -> None:
        """Who is read, at once: the heartbeat does not wait for the next look."""
        leaders = {lead.leader.name for lead in self._choice.leads.values() if lead.leader is not None}
        self._feed.source = ", ".join(name for name in self._links if name in leaders)

    def last_heard_from(self, link: SourceConnection, theirs: str) -> bool:
        """Whether this source, and no other, was the last to lead the symbol that the exchange calls so."""
        return self._last_leader.get(link.names.owned(theirs)) == link.source.name
