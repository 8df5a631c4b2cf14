"""MOCK_WS and REAL_WS: for each symbol the trades of the best source that works, all read by this one thread.

`choice` decides who leads and who is connected, `patience` when one may be tried, `booking` what is booked; here the
connections are read, and what was decided is carried out.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.config.sources import Source
from hybrid_engine.domain.counters import FeedState
from hybrid_engine.ingest.delivery import Delivery
from hybrid_engine.ingest.failure import Dead, SourceFailed
from hybrid_engine.ingest.listener import Listener
from hybrid_engine.ingest.session import Session
from hybrid_engine.ingest.source_connection import SourceConnection
from hybrid_engine.ingest.source_report import SourceReport
from hybrid_engine.ingest.source_selector import SourceSelector
from hybrid_engine.ingest.source_state import Change, Rules
from hybrid_engine.ingest.stage import IngestStage
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import NetworkError, ParseError
from hybrid_engine.runtime.log import Logger
from hybrid_engine.stages.admission import AdmissionQueue
from hybrid_engine.stages.channel import BEAT_S

# How often health and choice are looked at. What fails, connects or is to stop is seen at once.
TEND_S = 0.1

log = Logger("hybrid_engine.ingest")


class FeedIngest(IngestStage):
    """Reads every connection there is, one `select` a batch."""

    def __init__(
        self,
        sources: Sequence[Source],
        app_symbol: str,
        admission: AdmissionQueue,
        feed: FeedState,
        settings: EngineSettings,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(admission, feed, settings, on_end)
        self._links = {source.name: SourceConnection(source, app_symbol) for source in sources}
        self._choice = SourceSelector([link.standing for link in self._links.values()])
        self._overview = SourceReport(feed, self._links, self._choice)
        self._booking = Delivery(admission, feed, self._choice, self.heartbeat)
        self._listener = Listener()
        self._tend_at = 0.0

    def stop(self) -> None:
        super().stop()
        self._listener.ring()

    def work(self) -> None:
        self._booking.usable_at = time.monotonic()
        try:
            while not self.stopping:
                self.heartbeat()
                ready, rung = self._listener.ready(max(0.0, min(BEAT_S, self._tend_at - time.monotonic())))
                for session, link in ready:
                    self._read(link, session)
                if rung or time.monotonic() >= self._tend_at:
                    self._tend()
        finally:
            self._booking.settle(float("inf"))
            for link in self._links.values():
                self._let_go(link)
            self.feed.source = ""
            self._listener.close()

    def _read(self, link: SourceConnection, session: Session) -> None:
        if not session.open:
            return  # gone since it was found ready
        try:
            messages = session.connection.take()
            if session.connection.pending:
                self._listener.holds_more(session, link)
            if messages:
                self._booking.deliver(link, session, messages, self.settings.parse_error_limit)
        except SourceFailed as error:
            self._fail(link, session, error)

    # Tending ----------------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        """Look after each connection, decide, and say how things stand."""
        self._tend_at = time.monotonic() + TEND_S
        for link in self._links.values():
            self._look_after(link)
        self._decide()
        self._booking.settle(time.monotonic())
        self._overview.look()
        self._check_deadline()

    def _look_after(self, link: SourceConnection) -> None:
        now = time.monotonic()
        try:
            made = link.connected(now)
        except SourceFailed as error:
            if link.session is None:
                self._failed(link, None, error)
            else:
                link.move_failed(now, error, self.settings.failback_after_s)
            made = None
        if made is not None:
            if made is link.session:
                link.numbers.new_socket(partial(self._overview.last_heard_from, link))
            self._listener.open(made, link)
        for session in link.sessions():
            try:
                session.connection.check_alive(self.settings.dead_after_s)
            except SourceFailed as error:
                self._fail(link, session, error)
                continue
            if session.connection.control_at and not session.errors_in_a_row:
                self._heard_pong(link, session, session.connection.control_at)
        if link.move_ready:
            self._move(link)
        elif why := link.move_due(now):
            link.connect(now, why, self._listener.ring)

    def _heard_pong(self, link: SourceConnection, session: Session, at: float) -> None:
        """A quiet market: nobody trades, and the exchange answers."""
        if session is link.successor:
            session.sensible_at = session.sensible_at or at
        elif at > link.standing.heard_at:
            self._booking.alive(link, session, now_ms())

    def _fail(self, link: SourceConnection, session: Session, error: SourceFailed) -> None:
        """A connection is of no use any more."""
        self._listener.drop(session)
        if session is link.successor:
            link.move_failed(time.monotonic(), error, self.settings.failback_after_s)
        elif link.successor is not None:
            self._move(link)  # as it was said it would
        else:
            self._failed(link, session, error)
            self._decide()
            self._check_deadline()

    def _failed(self, link: SourceConnection, session: Session | None, error: SourceFailed) -> None:
        """A source cannot be used now."""
        self._overview.remember()
        self.feed.source_failures += 1
        self.feed.dead_count += isinstance(error, Dead)
        held = {"hold_s": round(error.hold_s)} if error.hold_s else {}
        log.warn("source failed", source=link.source.name, url=link.source.url, reason=str(error), **held)
        leaders = {symbol: self._choice.leads[symbol].leader for symbol in link.names.own}
        silent = [symbol for symbol, leader in leaders.items() if leader is None or leader is link.standing]
        if silent and session is not None and session.strangers and not link.source.symbols:
            silent = sorted(session.strangers)
        from_ms = link.began_ms if session is None else session.heard_ms or session.began_ms
        for symbol in silent:
            self._booking.silence_begins("down", link.source.name, symbol, from_ms)
        link.failed(time.monotonic(), error, self.settings.failback_after_s)

    def _let_go(self, link: SourceConnection) -> None:
        for session in link.let_go(time.monotonic(), self.settings.failback_after_s):
            self._listener.drop(session)

    # Carrying out -----------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        now, settings = time.monotonic(), self.settings
        for link in self._links.values():
            link.standing.ready_at, link.standing.beside_at = link.patience.ready_at, link.patience.beside_at
        rules = Rules(settings.stale_after_s, settings.failback_after_s, settings.standby == "hot")
        for change in self._choice.decide(now, rules):
            self._lead(change)
        for link in self._links.values():
            why = self._choice.wanted.get(link.source.name)
            if why is None and not link.idle:
                log.info("disconnecting", source=link.source.name, was=link.why)
                self._let_go(link)
            elif why is not None:
                link.why = why
                if link.idle and link.standing.ready_at <= now:
                    link.connect(now, why, self._listener.ring)

    def _lead(self, change: Change) -> None:
        """Another source leads a symbol from now on."""
        symbol, old, new = change.symbol, change.old, self._links[change.new.name]
        session = new.session
        assert session is not None
        if old is not None:
            self._leave(symbol, self._links[old.name], change)
        if len(self._links) > 1:
            log.info("leads", source=new.source.name, symbol=symbol, why=change.why)
        symbols = {symbol} if session.leads else {symbol, *session.strangers}
        session.leads.add(symbol)
        for one in symbols:
            self._booking.offer_kept(new, session, one)
        if new.standing.useful_from is not None:
            self._booking.end_silences(session, now_ms())
        self._overview.name_leaders()

    def _leave(self, symbol: str, link: SourceConnection, change: Change) -> None:
        """A source that still works leads a symbol no more."""
        if link.session is not None:
            link.session.leads.discard(symbol)
        if change.why == "better":
            self.feed.moves += 1
            return
        self.feed.stale_count += 1
        self.feed.source_failures += 1
        reason = f"stale: no trade of {symbol} for {self.settings.stale_after_s:g} s while {change.new.name} trades"
        log.warn("source failed", source=link.source.name, url=link.source.url, reason=reason)
        now = time.monotonic()
        from_ms = now_ms() - round((now - change.silent_since) * 1000)
        self._booking.silence_begins("stale", link.source.name, symbol, from_ms)
        link.left_as_stale(now, self.settings.failback_after_s)

    def _move(self, link: SourceConnection) -> None:
        """The new connection of a source takes over from its old one: nothing is lost, nothing comes twice."""
        old = link.session
        assert old is not None
        if old.open:
            with suppress(SourceFailed):
                self._booking.deliver(link, old, old.connection.take(), self.settings.parse_error_limit)
            self._listener.drop(old)
        received_ms = now_ms()
        new = link.moved(time.monotonic())
        new.leads = set(old.leads)
        link.numbers.new_socket(lambda theirs: True)
        self._booking.observe(link, new, new.marks, link.heard_ms or received_ms, received_ms)
        for symbol in new.leads | new.strangers if new.leads else ():
            self._booking.offer_missing(link, new, symbol)
        new.inherit(old)
        self.feed.moves += 1
        log.info("moved to a new connection", source=link.source.name)

    def _check_deadline(self) -> None:
        deadline_s = self.settings.network_deadline_s
        if self.stopping or time.monotonic() - self._booking.usable_at < deadline_s:
            return
        if any(link.session is not None for link in self._links.values()):
            return  # it may be a quiet one; if it is dead or makes no sense, it fails
        names = ", ".join(self._links)
        if all(link.garbage for link in self._links.values()):
            raise ParseError(f"every source sent frames that do not decode for {deadline_s:g} s: {names}")
        raise NetworkError(f"no source could be used for {deadline_s:g} s: {names}")
