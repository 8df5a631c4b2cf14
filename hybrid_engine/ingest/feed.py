"""MOCK_WS and REAL_WS: one thread reads every connection and accepts, for each symbol, the trades of its best source.

`SourceSelector` decides which source is active and which are connected, `RetryPolicy` when one may be retried, and
`Delivery` passes trades and gaps to admission. This module reads the connections and carries out the decisions.
"""

import time
from collections.abc import Mapping
from contextlib import suppress

from hybrid_engine.config.load import Config
from hybrid_engine.domain.accounting import FeedState
from hybrid_engine.domain.run_state import RunState
from hybrid_engine.ingest.connection_attempt import ConnectionAttempt
from hybrid_engine.ingest.connection_poller import ConnectionPoller
from hybrid_engine.ingest.delivery import Delivery
from hybrid_engine.ingest.failure import SourceDead, SourceFailed
from hybrid_engine.ingest.session import Session
from hybrid_engine.ingest.source_selector import SourceChange, SourceSelector
from hybrid_engine.ingest.source_state import SourceState
from hybrid_engine.ingest.stage import IngestStage
from hybrid_engine.ingest.symbol_watch import SymbolWatch
from hybrid_engine.runtime.address import show_address
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import NetworkError, ParseError
from hybrid_engine.runtime.log import Logger
from hybrid_engine.stages.admission import AdmissionQueue

# How often connections are checked and the selector decides, and how long a read waits at most. Failures, new
# connections and a stop are handled at once.
HOUSEKEEPING_S = 0.1

log = Logger("hybrid_engine.ingest")


class FeedIngest(IngestStage):
    """The feed of the configured sources. Raises NetworkError and ParseError from `work` after `network_deadline_s`."""

    def __init__(
        self, config: Config, admission: AdmissionQueue, feed: FeedState, holds: Mapping[str, int] | None = None
    ) -> None:
        """holds: until when, in wall-clock milliseconds, each address is not to be connected to."""
        super().__init__(config, admission, feed)
        self._sources = tuple(SourceState(source, self.app_symbol) for source in config.sources)
        for source in self._sources:
            source.hold(time.monotonic(), (holds or {}).get(source.config.address, 0))
        self._watch = SymbolWatch(self._sources)
        self._selector = SourceSelector(self._sources)
        self._quiet: set[str] = set()  # symbols whose market is quiet
        self._delivery = Delivery(admission, feed, self._selector, self.heartbeat)
        self._poller = ConnectionPoller()
        self._housekeeping_at = 0.0

    def stop(self) -> None:
        super().stop()
        self._poller.wake()

    def work(self) -> None:
        self._delivery.usable_at = time.monotonic()
        try:
            while not self.stopping:
                self.heartbeat()
                sessions, woken = self._poller.poll(max(0.0, self._housekeeping_at - time.monotonic()))
                for session, source in sessions:
                    self._read(source, session)
                if woken or time.monotonic() >= self._housekeeping_at:
                    self._do_housekeeping()
        finally:
            self._delivery.flush_expired(float("inf"))
            for source in self._sources:
                self._release(source)
            self.feed.source = ""
            self._poller.close()

    def _read(self, source: SourceState, session: Session) -> None:
        if not session.open:
            return  # closed since the poller returned it
        try:
            messages = session.connection.receive()
            if session.connection.pending:
                self._poller.add_pending(session, source)
            if messages:
                self._delivery.deliver(source, session, messages, self.settings.parse_error_limit)
        except SourceFailed as error:
            self._fail_session(source, session, error)

    def _do_housekeeping(self) -> None:
        self._housekeeping_at = time.monotonic() + HOUSEKEEPING_S
        for source in self._sources:
            self._check_source(source)
        self._apply_decisions()
        self._delivery.flush_expired(time.monotonic())
        self._report_sources()
        self._check_deadline()

    def _check_source(self, source: SourceState) -> None:
        """Take over a connection that was made, check that the open ones are alive, and make a planned move."""
        now = time.monotonic()
        try:
            session = source.finish_connecting(now)
        except SourceFailed as error:
            session = None
            if source.session is None:
                self._fail_source(source, error)
            else:
                source.fail_move(now, error, self.settings.failback_after_s)
        if session is not None:
            if session is source.session:
                # Numbers go on where no other source was active meanwhile: what another one provided is not missing.
                active, names = self._selector.active, source.names
                continued = session.continued = frozenset(s for s in source.symbols if active[s].last_useful is source)
                source.sequence.start_connection(lambda s: names.own_symbol(s) in continued)
            self._poller.register(session, source)
        for session in source.sessions():
            try:
                session.connection.check_alive(self.settings.dead_after_s)
                self._delivery.check_answers(source, session, now, self.settings.dead_after_s)
            except SourceFailed as error:
                self._fail_session(source, session, error)
                continue
            control_at = session.connection.control_at
            if control_at and not session.errors_in_a_row:  # a pong: in a quiet market the source is alive
                if session is source.successor:
                    session.first_valid_at = session.first_valid_at or control_at
                elif control_at > source.last_seen_at:
                    self._delivery.mark_seen(source, session, now, now_ms())
        if source.move_ready(now):
            self._move(source)
        elif reason := source.move_reason(now):
            self._connect(source, reason)

    def _connect(self, source: SourceState, purpose: str) -> None:
        now = time.monotonic()
        attempt = ConnectionAttempt(source.config, source.symbols_to_ask(now), self._poller.wake)
        source.begin_connecting(now, purpose, attempt)

    def _fail_session(self, source: SourceState, session: Session, error: SourceFailed) -> None:
        """Close a connection that cannot be used any more; its successor, if there is one, takes over."""
        self._poller.close_session(session)
        if session is source.successor:
            source.fail_move(time.monotonic(), error, self.settings.failback_after_s)
        elif source.successor is not None:
            self._move(source)  # the exchange closed it as announced
        else:
            self._fail_source(source, error)
            self._apply_decisions()
            self._check_deadline()

    def _fail_source(self, source: SourceState, error: SourceFailed) -> None:
        self.feed.source_failures += 1
        self.feed.dead_count += isinstance(error, SourceDead)
        hold = {"hold_s": round(error.hold_s)} if error.hold_s else {}
        log.warn("source failed", source=source.name, url=show_address(source.config.url), reason=str(error), **hold)
        session, from_ms = source.session, source.connecting_ms
        silent = [symbol for symbol in source.symbols if self._selector.active[symbol].source in (None, source)]
        if session is not None:
            from_ms = max(session.connected_ms, source.last_seen_ms or 0)
            if silent and session.unknown_symbols and not source.config.symbols:
                silent = sorted(session.unknown_symbols)
        for symbol in silent:
            self._delivery.begin_silence("down", source.name, symbol, from_ms)
        source.fail(time.monotonic(), error, self.settings.failback_after_s)

    def _release(self, source: SourceState) -> None:
        for session in source.release(time.monotonic(), self.settings.failback_after_s):
            self._poller.close_session(session)

    def _report_sources(self) -> None:
        """Write the fields of `feed`, which the heartbeat reads: each is replaced as a whole."""
        active, feed = self._selector.active.values(), self.feed
        quiet = {symbol.symbol for symbol in active if symbol.quiet}
        for name in sorted(quiet - self._quiet):
            feed.quiet_count += 1
            log.info("quiet market: no source trades", symbol=name)
        self._quiet = quiet
        stale = {source for symbol in active for source in symbol.stale_at}
        feed.sources = {
            source.name: source.describe(quiet=source.active_symbols <= quiet, stale=source in stale)
            for source in self._sources
        }
        self._watch.check(time.monotonic(), self.settings)
        feed.silent_count = self._watch.count
        holds = {one.config.address: one.held_until_ms for one in self._sources if one.held_until_ms > now_ms()}
        feed.state = RunState(self._watch.unfed(self._selector.active), holds=holds)
        feed.sources_connected = sum(source.session is not None for source in self._sources)
        self._report_active()

    def _report_active(self) -> None:
        """Name the active sources at once: HEARTBEAT does not wait for the next housekeeping."""
        self.feed.source = ", ".join(source.name for source in self._sources if source.active_symbols)

    def _apply_decisions(self) -> None:
        now = time.monotonic()
        for change in self._selector.decide(now, self.settings):
            self._activate(change)
        for source in self._sources:
            purpose = self._selector.purposes.get(source)
            if purpose is None and not source.idle:
                log.info("disconnecting", source=source.name, was=source.purpose)
                self._release(source)
            elif purpose is not None:
                source.purpose = purpose
                if source.idle and source.retry.retry_at <= now:
                    self._connect(source, purpose)

    def _activate(self, change: SourceChange) -> None:
        """Accept the trades of a symbol from another source from now on."""
        symbol, source = change.symbol, change.new
        session = source.session
        assert session is not None
        if change.old is not None:
            self._deactivate(change.old, change)
        if len(self._sources) > 1:
            log.info("active source changed", source=source.name, symbol=symbol, why=change.reason)
        symbols = {symbol} if source.active_symbols else {symbol, *session.unknown_symbols}
        source.active_symbols.add(symbol)
        for name in symbols:
            self._delivery.offer_standby_trades(source, session, name)
        if source.useful_since is not None:
            self._selector.note_useful(source)
            self._delivery.end_silences(source, now_ms())
        self._report_active()

    def _deactivate(self, source: SourceState, change: SourceChange) -> None:
        """Stop accepting the trades of a symbol from a source that is still connected."""
        source.active_symbols.discard(change.symbol)
        if change.reason == "better":
            self.feed.moves += 1
            return
        self.feed.stale_count += 1
        self.feed.source_failures += 1
        lasted = f"no trade of {change.symbol} for {self.settings.stale_after_s:g} s"
        reason = f"stale: {lasted} while {change.new.name} trades"
        log.warn("source failed", source=source.name, url=show_address(source.config.url), reason=reason)
        now = time.monotonic()
        from_ms = now_ms() - round((now - change.silent_since) * 1000)
        self._delivery.begin_silence("stale", source.name, change.symbol, from_ms)
        source.mark_stale(now, self.settings.failback_after_s)

    def _move(self, source: SourceState) -> None:
        """Replace the connection in use by its successor, without a missing or a repeated trade."""
        old = source.session
        assert old is not None
        if old.open:
            with suppress(SourceFailed):
                self._delivery.deliver(source, old, old.connection.receive(), self.settings.parse_error_limit)
            self._poller.close_session(old)
        new = source.finish_move(time.monotonic())
        source.sequence.start_connection(lambda symbol: True)
        self._delivery.observe_marks(source, new, new.marks, now_ms())
        for symbol in source.active_symbols | new.unknown_symbols if source.active_symbols else ():
            self._delivery.offer_moved_trades(source, new, symbol)
        new.inherit_standby_trades(old)
        self.feed.moves += 1
        log.info("moved to a new connection", source=source.name)

    def _check_deadline(self) -> None:
        deadline_s = self.settings.network_deadline_s
        if self.stopping or time.monotonic() - self._delivery.usable_at < deadline_s:
            return
        if any(source.session is not None and source.session.subscription.may_be_quiet for source in self._sources):
            return  # a dead or an undecodable connection fails by itself
        names = ", ".join(source.name for source in self._sources)
        if all(source.undecodable for source in self._sources):
            raise ParseError(f"every source sent frames that do not decode for {deadline_s:g} s: {names}")
        raise NetworkError(f"no source could be used for {deadline_s:g} s: {names}")
