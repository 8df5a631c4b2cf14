"""One source: its connection, the one that is to take that one's place, and when it may be tried."""

import random
import time
from collections.abc import Callable, Iterator

from hybrid_engine.config.sources import Source
from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import EXCHANGES
from hybrid_engine.ingest.connection_attempt import ConnectionAttempt
from hybrid_engine.ingest.failure import Dead, Garbage, SourceFailed
from hybrid_engine.ingest.retry_policy import MINUTE_S, RetryPolicy
from hybrid_engine.ingest.sequence_gaps import SequenceTracker
from hybrid_engine.ingest.session import Session
from hybrid_engine.ingest.source_state import SourceState
from hybrid_engine.ingest.symbol_names import SymbolNames
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.log import Logger

# The old connection and the new one are read side by side for so long before the old one is left.
OVERLAP_S = 1.0
# How far the new one may be behind the old one.
ECHO_S = 5.0
# A connection whose life is limited is replaced after this part of it, drawn so that many do not move together.
MOVE_AFTER = (0.9, 0.98)

log = Logger("hybrid_engine.ingest")


class SourceConnection:
    """A source with at most one connection in use (`session`) and at most one to come (`successor`).

    `why`: what it is connected for. `seen_twice`: trades of the old connection that the new one may bring as well;
    `echoes`: trades of another source, which led before, that this one may bring as well.
    """

    def __init__(self, source: Source, app_symbol: str) -> None:
        self.source = source
        self.names = SymbolNames(source, app_symbol)
        self.standing = SourceState(source.name, source.priority, self.names.own)
        self.patience = RetryPolicy()
        self.numbers = SequenceTracker()
        self.session: Session | None = None
        self.successor: Session | None = None
        self.why = ""
        self.garbage = False
        self.heard_ms: int | None = None
        self.began_ms = 0
        self.seen_twice: set[MarketTrade] = set()
        self.echoes: set[MarketTrade] = set()
        self._app_symbol = app_symbol
        self._connecting: ConnectionAttempt | None = None
        self._lifetime_s = EXCHANGES[source.kind].lifetime_s
        self._move_at = self._next_move_at = self._seen_until = self._echoes_until = 0.0
        self._trouble = ""

    @property
    def idle(self) -> bool:
        return self.session is None and self._connecting is None

    @property
    def moving(self) -> bool:
        """A new connection is being made, or read, beside the one in use: both may bring the same."""
        return self.session is not None and (self._connecting is not None or self.successor is not None)

    def sessions(self) -> Iterator[Session]:
        """The open connections."""
        if self.session is not None:
            yield self.session
        if self.successor is not None:
            yield self.successor

    def connect(self, now: float, why: str, wake: Callable[[], None]) -> None:
        """Begin to connect: beside the connection there is, if there is one."""
        log.info("connecting", source=self.source.name, url=self.source.url, why=why)
        self.patience.tried(now)
        if self.session is None:
            self.began_ms = now_ms()
            self.standing.connecting_at = now
        self._connecting = ConnectionAttempt(self.source, self._app_symbol, wake)

    def connected(self, now: float) -> Session | None:
        """The connection that was made since the last call, now the session or its successor. Raises SourceFailed."""
        if self._connecting is None:
            return None
        try:
            connection = self._connecting.result()
        except SourceFailed:
            self._connecting = None
            raise
        if connection is None:
            return None
        self._connecting = None
        made = Session(self.source, self.names, connection)
        log.info("connected", source=self.source.name)
        if self.session is not None:
            self.successor = made
            return made
        self.session = made
        self.standing.connected(now)
        self._plan_move(now)
        return made

    def failed(self, now: float, error: SourceFailed, failback_after_s: float) -> None:
        """It cannot be used now; the connection is gone."""
        self.garbage = isinstance(error, Garbage)
        self._trouble = "dead" if isinstance(error, Dead) else "failed"
        self.patience.failed(now, 0.0 if self.garbage else self.standing.useful_s, error.hold_s, failback_after_s)
        self.session = None
        self.standing.failed_at = now
        self.standing.gone()
        if self._connecting is not None:  # it was about to move: what is on its way comes as the next connection
            self.standing.connecting_at = now

    def left_as_stale(self, now: float, failback_after_s: float) -> None:
        self._trouble = "stale"
        self.patience.failed(now, self.standing.useful_s, 0.0, failback_after_s)

    def let_go(self, now: float, failback_after_s: float) -> list[Session]:
        """It is not needed: the connections to close."""
        closing = list(self.sessions())
        if self.why == "better":
            self.patience.relapsed(now, self.standing.useful_s, failback_after_s)
        if self._connecting is not None:
            self._connecting.abandon()
        self._connecting = self.session = self.successor = None
        self.seen_twice.clear()
        self.standing.gone()
        return closing

    # A planned move ---------------------------------------------------------------------------------------------

    def _plan_move(self, now: float) -> None:
        self._move_at = now + self._lifetime_s * random.uniform(*MOVE_AFTER) if self._lifetime_s else float("inf")

    def move_due(self, now: float) -> str:
        """Why a new connection is to be made before the one in use ends, "" while none is."""
        session = self.session
        if session is None or self.successor is not None or self._connecting is not None:
            return ""
        if now < max(self._next_move_at, self.patience.ready_at):
            return ""
        return session.moving or ("its time is nearly over" if now >= self._move_at else "")

    def move_failed(self, now: float, error: SourceFailed, failback_after_s: float) -> None:
        """The new connection is of no use; the old one is still there."""
        log.warn("no new connection yet", source=self.source.name, reason=str(error))
        self.successor = None
        self.seen_twice.clear()
        self.patience.failed(now, 0.0, error.hold_s, failback_after_s)

    @property
    def move_ready(self) -> bool:
        """Both connections have been read side by side for long enough."""
        successor = self.successor
        if successor is None or successor.sensible_at is None:
            return False
        return time.monotonic() - successor.sensible_at >= OVERLAP_S

    def moved(self, now: float) -> Session:
        """The successor takes its place. Returns it."""
        assert self.successor is not None
        self.session, self.successor = self.successor, None
        # One that says at once that it will be closed, too, must not make a storm.
        self._next_move_at = now + MINUTE_S
        self._seen_until = now + ECHO_S
        self._plan_move(now)
        return self.session

    def unseen(self, prints: list[MarketTrade], now: float) -> list[MarketTrade]:
        """Those that the connection that was replaced did not bring before."""
        found = [item for item in prints if item not in self.seen_twice]
        if now > self._seen_until:
            self.seen_twice.clear()
        return found

    def expect_echoes(self, taken: set[MarketTrade], now: float) -> None:
        """It leads from now on, and these were taken before."""
        self.echoes |= taken
        self._echoes_until = now + ECHO_S

    def forget_echoes(self, now: float) -> None:
        if now > self._echoes_until:
            self.echoes.clear()

    def state(self, leads: bool, quiet: bool, stale: bool) -> str:
        """For the heartbeat: trading, quiet, stale or standby when connected; else connecting, dead, failed or off."""
        if self.session is not None:
            if leads:
                return "quiet" if quiet else "trading"
            return "stale" if stale else "standby"
        return "connecting" if self._connecting is not None else self._trouble or "off"

    def recovered(self) -> None:
        """It made sense again."""
        self._trouble = ""
