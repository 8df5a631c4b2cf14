"""MOCK_WS and REAL_WS: trades from the best source that works.

A source that closes, refuses, answers an HTTP error, is dead or sends garbage is left at once for the next one. When
all failed, a pause with full jitter, then from the top. Only a connection that was useful for a while resets the pause:
a server that accepts and closes must not be hammered.
"""

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence

from hybrid_engine.channel import BEAT_S
from hybrid_engine.exits import NetworkError, ParseError
from hybrid_engine.front_door import FrontDoor
from hybrid_engine.ingest.base import IngestStage
from hybrid_engine.ingest.connection import Connection
from hybrid_engine.ingest.exchanges import decode
from hybrid_engine.ingest.failure import Garbage, SourceFailed
from hybrid_engine.ingest.session import Session
from hybrid_engine.journal import Journal, Throttle
from hybrid_engine.metrics import FeedState
from hybrid_engine.model import Print
from hybrid_engine.settings import EngineSettings
from hybrid_engine.sources import Source
from hybrid_engine.store import now_ms

CONNECT_TIMEOUT_S = 8.0
USEFUL_AFTER_S = 5.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0

log = Journal("hybrid_engine.ingest")


class FeedIngest(IngestStage):
    """One connection at a time, to the best source that works."""

    def __init__(
        self,
        sources: Sequence[Source],
        app_symbol: str,
        door: FrontDoor,
        feed: FeedState,
        settings: EngineSettings,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(door, feed, settings, on_end)
        self._sources = tuple(sources)
        self._app_symbol = app_symbol
        self._hold_until: dict[str, float] = {}
        self._garbage: dict[str, bool] = {}
        self._usable_at = time.monotonic()
        self._rejections = Throttle()

    def work(self) -> None:
        self._usable_at = time.monotonic()
        last_useful: Source | None = None
        empty_rounds = 0
        while not self.stopping:
            useful = False
            for source in self._candidates(last_useful):
                useful = self._use(source)
                if useful:
                    last_useful, empty_rounds = source, 0
                    break
                if self.stopping:
                    return
            if not useful:
                last_useful = None
                pause_s = random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(empty_rounds, 16)))
                empty_rounds += 1
                self._pause(pause_s)

    def _candidates(self, last_useful: Source | None) -> list[Source]:
        """Best first; one that just broke down after good service comes last."""
        now = time.monotonic()
        ready = [s for s in self._sources if self._hold_until.get(s.name, 0.0) <= now]
        return sorted(ready, key=lambda source: source is last_useful)

    def _pause(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < due:
            self._check_deadline()
            self.wait_until(min(due, time.monotonic() + BEAT_S))
        self._check_deadline()

    def _check_deadline(self) -> None:
        deadline_s = self.settings.network_deadline_s
        if self.stopping or time.monotonic() - self._usable_at < deadline_s:
            return
        names = ", ".join(source.name for source in self._sources)
        if self._garbage and all(self._garbage.get(source.name) for source in self._sources):
            raise ParseError(f"every source sent frames that do not decode for {deadline_s:g} s: {names}")
        raise NetworkError(f"no source could be used for {deadline_s:g} s: {names}")

    def _use(self, source: Source) -> bool:
        """Connect and read until the source fails or a stop comes. True when it was useful for a while."""
        log.info("connecting", source=source.name, url=source.url)
        session = Session(source, self._app_symbol)
        connection: Connection | None = None
        try:
            connection = self._connect(source)
            if connection is None:
                return False
            log.info("connected", source=source.name)
            self.feed.source = source.name
            self._read(connection, session)
        except SourceFailed as error:
            self._garbage[source.name] = isinstance(error, Garbage)
            self._hold_until[source.name] = time.monotonic() + error.hold_s
            self.feed.source_failures += 1
            log.warn("source failed", source=source.name, url=source.url, reason=str(error))
            for symbol in session.symbols or source.symbols or (self._app_symbol,):
                self.door.silence_begins(source.name, symbol, session.heard_ms or session.began_ms)
        finally:
            self.feed.source = ""
            if connection is not None:
                connection.close()
        self._check_deadline()
        return session.useful_s >= USEFUL_AFTER_S and not self._garbage.get(source.name)

    def _connect(self, source: Source) -> Connection | None:
        """Connect beside this thread, which goes on beating: a resolver may hang for longer than the watchdog waits."""
        answer: queue.SimpleQueue[Connection | SourceFailed] = queue.SimpleQueue()
        abandoned = threading.Event()

        def connect() -> None:
            try:
                connection = Connection(source, self._app_symbol, CONNECT_TIMEOUT_S)
            except SourceFailed as error:
                answer.put(error)
            except Exception as error:  # noqa: BLE001 - a library's surprise is a failed source, not a dead engine
                answer.put(SourceFailed(f"{type(error).__name__}: {error}"))
            else:
                answer.put(connection)
                if abandoned.is_set():
                    connection.close()

        threading.Thread(target=connect, name=f"connect-{source.name}", daemon=True).start()
        due = time.monotonic() + CONNECT_TIMEOUT_S
        while not self.stopping:
            self.beat()
            try:
                result = answer.get(timeout=BEAT_S)
            except queue.Empty:
                self._check_deadline()
                if time.monotonic() < due:
                    continue
                _abandon(answer, abandoned)
                raise SourceFailed(f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
            if isinstance(result, SourceFailed):
                raise result
            return result
        _abandon(answer, abandoned)
        return None

    def _read(self, connection: Connection, session: Session) -> None:
        while not self.stopping:
            self.beat()
            messages = connection.read()
            connection.check_alive(self.settings.dead_after_s)
            if connection.control_at > self._usable_at and not session.errors_in_a_row:
                self._alive(session, now_ms())  # a quiet market: nobody trades, and the exchange answers
            if messages:
                self._deliver(messages, session)

    def _alive(self, session: Session, received_ms: int, *, traded: bool = False) -> None:
        """The source said something that makes sense; `traded`: a trade."""
        self.feed.last_frame_ms = received_ms
        session.hear(received_ms)
        if self._garbage.get(session.source.name) and not traded:
            return  # it was left for trades that do not decode: its heartbeats do not make it usable again
        self._usable_at = time.monotonic()
        self._garbage[session.source.name] = False
        self.door.silence_ends(received_ms)

    def _deliver(self, messages: Sequence[bytes], session: Session) -> None:
        """Decode, and offer everything that came in one go."""
        received_ms = now_ms()
        prints: list[Print] = []
        limit = self.settings.parse_error_limit
        good = False
        for message in messages:
            decoded = decode(session.exchange, message)
            good = good or not decoded.rejections
            for item in decoded.prints:
                prints.append(session.named(item))
                session.errors_in_a_row = 0
            for reason in decoded.rejections:
                self.door.reject(session.source.name, session.default_symbol, received_ms)
                self._complain(session.source, reason, message)
                session.errors_in_a_row += 1
            if session.errors_in_a_row >= limit:
                break
        if good:
            self._alive(session, received_ms, traded=bool(prints))
        if prints:
            self.door.offer(session.source.name, prints, received_ms, self.beat)
        if session.errors_in_a_row >= limit:
            raise Garbage(f"{limit} undecodable trade frames in a row")

    def _complain(self, source: Source, reason: str, message: bytes) -> None:
        held = self._rejections.ready()
        if held is not None:
            excerpt = message[:200].decode("utf-8", "replace")
            log.warn("frame rejected", source=source.name, reason=reason, frame=excerpt, held_back=held)


def _abandon(answer: "queue.SimpleQueue[Connection | SourceFailed]", abandoned: threading.Event) -> None:
    """Whoever comes later closes by itself; whoever came at this very moment is closed here."""
    abandoned.set()
    try:
        late = answer.get_nowait()
    except queue.Empty:
        return
    if isinstance(late, Connection):
        late.close()
