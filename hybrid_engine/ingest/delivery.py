"""What is booked of what the connections said: trades, numbers that were left out, silences."""

import time
from collections.abc import Callable, Iterable, Sequence

from hybrid_engine.domain.counters import FeedState
from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import Mark
from hybrid_engine.ingest.failure import Garbage, SourceFailed
from hybrid_engine.ingest.recent_trades import RecentTrades
from hybrid_engine.ingest.sequence_gaps import SequenceGap, SequenceGaps
from hybrid_engine.ingest.session import Session
from hybrid_engine.ingest.source_connection import SourceConnection
from hybrid_engine.ingest.source_selector import SourceSelector
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.log import Logger, Throttle
from hybrid_engine.stages.admission import AdmissionQueue

log = Logger("hybrid_engine.ingest")


class Delivery:
    """`usable_at`: when a source was last found usable (monotonic seconds)."""

    def __init__(
        self, admission: AdmissionQueue, feed: FeedState, choice: SourceSelector, heartbeat: Callable[[], None]
    ) -> None:
        self.usable_at = time.monotonic()
        self._admission = admission
        self._feed = feed
        self._symbols = set(choice.leads)
        self._taken = RecentTrades(choice.shared)
        self._heartbeat = heartbeat
        self._taken_at: dict[str, float] = {}  # when the newest trade of a symbol was taken
        self._silent: set[str] = set()
        self._missing = SequenceGaps()
        self._rejections, self._holes = Throttle(), Throttle()

    def deliver(self, link: SourceConnection, session: Session, messages: Sequence[bytes], limit: int) -> None:
        """Decode, and offer everything that came in one go. Raises SourceFailed when it is of no use."""
        now, received_ms, name = time.monotonic(), now_ms(), link.source.name
        heard = session.sort(messages, now, received_ms, limit)
        for reason, message in heard.rejected:
            if session.leads:
                self._admission.reject(name, link.names.default, received_ms)
            self._complain(name, reason, message)
        if heard.moving and not session.moving:
            session.moving = heard.moving
            log.info("the exchange will close this connection", source=name, reason=heard.moving)
        if session is link.successor:
            session.marks += heard.marks
            if heard.sensible and session.sensible_at is None:
                session.sensible_at = now
        else:
            before_ms = link.heard_ms or received_ms
            for symbol in heard.traded:
                link.standing.traded_at[symbol] = now
            if heard.sensible:
                self.alive(link, session, received_ms, traded=bool(heard.traded))
            if heard.marks:
                self.observe(link, session, heard.marks, before_ms, received_ms)
            if heard.prints:
                for symbol in heard.traded:
                    if symbol in session.leads:
                        self._taken_at[symbol] = now
                if link.moving:
                    link.seen_twice.update(heard.prints)
                elif link.seen_twice:
                    heard.prints = link.unseen(heard.prints, now)
                if link.echoes:
                    heard.prints = self._without_echoes(link, heard.prints, now, received_ms)
                self._taken.add(name, heard.prints)
                self._admission.offer(name, heard.prints, received_ms, self._heartbeat)
        if session.errors_in_a_row >= limit:
            raise Garbage(f"{limit} undecodable trade frames in a row")
        if heard.refused:
            raise SourceFailed(f"refused: {heard.refused}")

    def alive(self, link: SourceConnection, session: Session, received_ms: int, *, traded: bool = False) -> None:
        """The source said something that makes sense; `traded`: a trade."""
        now = time.monotonic()
        self._feed.last_frame_ms = session.heard_ms = link.heard_ms = received_ms
        link.standing.heard_at = now
        if link.standing.useful_from is None:
            link.standing.useful_from = now
        if link.garbage and not traded:
            return  # it was left for trades that do not decode: its heartbeats do not make it usable again
        self.usable_at = now
        link.recovered()
        if self._silent and session.leads:
            self.end_silences(session, received_ms)

    def observe(
        self,
        link: SourceConnection,
        session: Session,
        marks: Iterable[Sequence[Mark]],
        before_ms: int,
        received_ms: int,
    ) -> None:
        """Note the numbers that were left out, of what this connection leads."""
        name = link.source.name
        for of_message in marks:
            for theirs, first, last, lasting, came in link.numbers.observe(of_message):
                key = (name, theirs, None if lasting else session)
                if came:
                    self._missing.came(key, first, last)
                    continue
                symbol = link.names.of(theirs) if theirs or len(link.names.own) == 1 else ""
                if session.leads and (symbol in session.leads or symbol not in link.names.own):
                    now = time.monotonic()
                    self._missing.add(SequenceGap(key, name, symbol, [(first, last)], before_ms, received_ms, now))

    def settle(self, now: float) -> None:
        """Book what was left out and did not come late either."""
        for hole in self._missing.over(now):
            missed = hole.count
            if not missed:
                continue
            self._admission.miss(hole.source, hole.symbol, missed, hole.from_ms, hole.at_ms)
            held = self._holes.ready()
            if held is not None:
                fields = {"source": hole.source, "symbol": hole.symbol, "missed": missed, "held_back": held}
                log.warn("the exchange's numbers leave some out", **fields)

    def offer_kept(self, link: SourceConnection, session: Session, symbol: str) -> None:
        """What `session` heard of `symbol` since the last trade that was taken, for it leads now."""
        name, now = link.source.name, time.monotonic()
        taken = self._taken.of_others(name, symbol)
        if taken:
            link.expect_echoes(taken, now)
        for received_ms, prints in session.kept(symbol, self._taken_at.get(symbol, 0.0), taken):
            self._end(symbol, received_ms)
            self._taken.add(name, prints)
            self._admission.offer(name, prints, received_ms, self._heartbeat)
            self._taken_at[symbol] = time.monotonic()

    def _without_echoes(
        self, link: SourceConnection, prints: list[MarketTrade], now: float, received_ms: int
    ) -> list[MarketTrade]:
        """Book, as duplicates, what the source that led before brought already."""
        found = []
        for item in prints:
            if item in link.echoes:
                self._admission.repeat(link.source.name, item.symbol, received_ms)
            else:
                found.append(item)
        link.forget_echoes(now)
        return found

    def offer_missing(self, link: SourceConnection, session: Session, symbol: str) -> None:
        """What `session` heard of `symbol` and the connection that it takes the place of did not."""
        for received_ms, prints in session.kept(symbol, 0.0):
            self._admission.offer(link.source.name, link.unseen(prints, 0.0), received_ms, self._heartbeat)

    def silence_begins(self, kind: str, source: str, symbol: str, from_ms: int) -> None:
        self._silent.add(symbol)
        self._admission.silence_begins(source, symbol, from_ms, kind)

    def end_silences(self, session: Session, to_ms: int) -> None:
        """The market of what `session` leads is heard again; that of symbols that nobody is told to lead as well."""
        for symbol in list(self._silent):
            if symbol in session.leads or symbol not in self._symbols:
                self._end(symbol, to_ms)

    def _end(self, symbol: str, to_ms: int) -> None:
        if symbol in self._silent:
            self._silent.remove(symbol)
            self._admission.silence_ends(to_ms, symbol)

    def _complain(self, source: str, reason: str, message: bytes) -> None:
        held = self._rejections.ready()
        if held is not None:
            excerpt = message[:200].decode("utf-8", "replace")
            log.warn("frame rejected", source=source, reason=reason, frame=excerpt, held_back=held)
