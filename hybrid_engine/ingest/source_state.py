"""The one owner of what is known about a source: its connections, retry policy, names, sequence numbers and health.

The source selector reads it; the feed, its one thread, changes it. Times are monotonic seconds, those named `_ms`
wall-clock milliseconds.
"""

import random
from collections.abc import Collection

from hybrid_engine.config.sources import Source
from hybrid_engine.exchanges import EXCHANGES
from hybrid_engine.ingest.connection_attempt import ConnectionAttempt
from hybrid_engine.ingest.failure import MAX_HOLD_S, SourceDead, SourceFailed, SourceUndecodable
from hybrid_engine.ingest.recent_trades import DuplicateWindow
from hybrid_engine.ingest.retry_policy import MINUTE_S, RetryPolicy
from hybrid_engine.ingest.sequence_gaps import SequenceTracker
from hybrid_engine.ingest.session import Session, SymbolNames
from hybrid_engine.runtime.address import show_address
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.log import Logger

# How long the old and the new connection are read side by side in a planned move.
OVERLAP_S = 1.0
# A connection with a limited lifetime is replaced after this part of it, drawn so that many do not move together.
MOVE_AFTER = (0.9, 0.98)
# How long a symbol that was refused is not asked for again.
ASK_AGAIN_S = 3600.0

log = Logger("hybrid_engine.ingest")


class SourceState:
    """A source with at most one connection in use (`session`) and at most one that will replace it (`successor`).

    - `purpose`: why it is connected; `active_symbols`: the symbols whose trades are accepted from it;
    - of the connection in use: `connected_at`; `useful_since`: the first valid frame or pong; `traded_at`: the last
      trade of each symbol; `last_seen_at`, `last_seen_ms`: the last valid frame or pong;
    - `undecodable`: the last failure was frames that do not decode;
    - `held_until_ms`: until when the exchange asked not to be connected to; 0: it did not ask;
    - `refused`: the symbols that the exchange will not send, and when it is asked for them again;
    - `moved_trades`, `failover_trades`: trades of its old connection, or of the source active before, that it may send
      as well.
    """

    def __init__(self, config: Source, app_symbol: str, retry: RetryPolicy | None = None) -> None:
        self.config = config
        self.name, self.priority = config.name, config.priority
        self.names = SymbolNames(config, app_symbol)
        self.symbols = self.names.own
        self.retry = retry or RetryPolicy()
        self.sequence = SequenceTracker()
        self.purpose = ""
        self.active_symbols: set[str] = set()
        self.session: Session | None = None
        self.successor: Session | None = None
        self.connecting_at: float | None = None
        self.connecting_ms = 0
        self.connected_at: float | None = None
        self.useful_since: float | None = None
        self.traded_at: dict[str, float] = {}
        self.last_seen_at = 0.0
        self.last_seen_ms: int | None = None
        self.failed_at = float("-inf")
        self.undecodable = False
        self.held_until_ms = 0
        self.refused: dict[str, float] = {}
        self.moved_trades = DuplicateWindow()
        self.failover_trades = DuplicateWindow()
        self._attempt: ConnectionAttempt | None = None
        self._failure = ""
        self._move_at = self._next_move_at = 0.0

    @property
    def idle(self) -> bool:
        return self.session is None and self._attempt is None

    @property
    def useful_s(self) -> float:
        return 0.0 if self.useful_since is None else self.last_seen_at - self.useful_since

    def sessions(self) -> list[Session]:
        """The open connections."""
        return [session for session in (self.session, self.successor) if session is not None]

    def carries(self, symbol: str) -> bool:
        """Whether it is connected, and not refused that symbol."""
        return self.connected_at is not None and symbol not in self.refused

    @property
    def in_use(self) -> bool:
        """Whether its connection brought what it was asked for, or the exchange said that it will."""
        return self.session is not None and self.session.subscription.in_use

    def awaited_symbols(self) -> Collection[str]:
        """The symbols that trades are expected of; where nothing names any, those that came."""
        return self.symbols if self.names.named else self.traded_at.keys() or self.symbols

    def hold(self, now: float, until_ms: int) -> None:
        """The exchange asked, in an earlier run, not to be connected to until then."""
        hold_s = min((until_ms - now_ms()) / 1000, MAX_HOLD_S)
        if hold_s > 0:
            self.held_until_ms = now_ms() + round(hold_s * 1000)
            self.retry.hold(now + hold_s)
            log.warn("the exchange asked for a pause, before this start", source=self.name, hold_s=round(hold_s))

    def symbols_to_ask(self, now: float) -> list[str]:
        """Those to subscribe to now: without what was refused within ASK_AGAIN_S, which is noted for the others."""
        asked = [symbol for symbol in self.symbols if self.refused.get(symbol, now) <= now]
        self.refused |= {symbol: now + ASK_AGAIN_S for symbol in asked if symbol in self.refused}
        return asked

    def refuse(self, symbol: str, now: float) -> None:
        """The exchange will not send the trades of that symbol."""
        self.refused[symbol] = now + ASK_AGAIN_S
        self.active_symbols.discard(symbol)

    def begin_connecting(self, now: float, purpose: str, attempt: ConnectionAttempt) -> None:
        """Note an attempt for the connection in use, or for its successor where there is one in use."""
        log.info("connecting", source=self.name, url=show_address(self.config.url), why=purpose)
        self.retry.record_attempt(now)
        self._attempt = attempt
        if self.session is None:
            self.connecting_at, self.connecting_ms = now, now_ms()

    def finish_connecting(self, now: float) -> Session | None:
        """The new session or successor once the attempt succeeded, else None. Raises SourceFailed."""
        attempt, self._attempt = self._attempt, None
        connection = attempt.result() if attempt is not None else None
        if connection is None:
            self._attempt = attempt
            return None
        log.info("connected", source=self.name)
        session = Session(self.config, self.names, connection, attempt.symbols if attempt else (), now)
        if self.session is not None:
            self.successor = session
        else:
            self.session = session
            self.connecting_at, self.connected_at = None, now
            self._plan_move(now)
        return session

    def mark_seen(self, now: float, received_ms: int, traded: bool) -> bool:
        """The connection in use sent a valid frame (`traded`: with trades) or a pong. Returns whether it is usable."""
        self.last_seen_at, self.last_seen_ms = now, received_ms
        if self.useful_since is None:
            self.useful_since = now
        usable = traded or not self.undecodable  # it may go on sending trades that do not decode
        if usable:
            self._failure = ""
        return usable

    def mark_stale(self, now: float, failback_after_s: float) -> None:
        """Another source trades and this one, still connected, does not."""
        self._failure = "stale"
        self.retry.record_failure(now, self.useful_s, 0.0, failback_after_s)

    def fail(self, now: float, error: SourceFailed, failback_after_s: float) -> None:
        """The source cannot be used now; the caller has closed its connection."""
        self.undecodable = isinstance(error, SourceUndecodable)
        self._failure = "dead" if isinstance(error, SourceDead) else "failed"
        self._note_hold(error)
        self.retry.record_failure(now, 0.0 if self.undecodable else self.useful_s, error.hold_s, failback_after_s)
        self.failed_at = now
        if self.refused.keys() >= set(self.symbols):  # or there would be nothing to ask for
            self.refused.clear()
        self._forget_connection()
        if self._attempt is not None:  # meant for the successor; it becomes the connection in use
            self.connecting_at = now

    def _note_hold(self, error: SourceFailed) -> None:
        if error.hold_s:
            self.held_until_ms = now_ms() + round(error.hold_s * 1000)

    def release(self, now: float, failback_after_s: float) -> list[Session]:
        """The source is not needed any more. Returns the sessions, which the caller closes."""
        sessions = self.sessions()
        if self.purpose == "better":
            self.retry.record_failed_trial(now, self.useful_s, failback_after_s)
        if self._attempt is not None:
            self._attempt.abandon()
        self._attempt = self.successor = None
        self.moved_trades.trades.clear()
        self._forget_connection()
        return sessions

    def _forget_connection(self) -> None:
        self.session = self.connecting_at = self.connected_at = self.useful_since = None
        self.traded_at.clear()
        self.active_symbols.clear()

    # Planned moves: a new connection replaces one that the exchange will close --------------------------------------

    @property
    def moving(self) -> bool:
        """A new connection is being made or read beside the one in use: both may bring the same trades."""
        return self.session is not None and (self._attempt is not None or self.successor is not None)

    def _plan_move(self, now: float) -> None:
        lifetime_s = EXCHANGES[self.config.kind].lifetime_s
        self._move_at = now + lifetime_s * random.uniform(*MOVE_AFTER) if lifetime_s else float("inf")

    def move_reason(self, now: float) -> str:
        """Why a new connection must be made now; "" where none must."""
        if self.session is None or self.moving or now < max(self._next_move_at, self.retry.retry_at):
            return ""
        return self.session.closing_reason or ("its lifetime is nearly over" if now >= self._move_at else "")

    def move_ready(self, now: float) -> bool:
        """Whether both connections have been read side by side for OVERLAP_S."""
        began_at = None if self.successor is None else self.successor.first_valid_at
        return began_at is not None and now - began_at >= OVERLAP_S

    def finish_move(self, now: float) -> Session:
        """Put the successor in use and return it."""
        assert self.successor is not None
        self.session, self.successor = self.successor, None
        self._next_move_at = now + MINUTE_S  # also where the exchange announces at once that it closes this one, too
        self.moved_trades.extend((), now)
        self._plan_move(now)
        return self.session

    def fail_move(self, now: float, error: SourceFailed, failback_after_s: float) -> None:
        """The new connection failed; the one in use stays."""
        log.warn("the replacement connection failed", source=self.name, reason=str(error))
        self.successor = None
        self.moved_trades.trades.clear()
        self._note_hold(error)
        self.retry.record_failure(now, 0.0, error.hold_s, failback_after_s)

    def describe(self, *, quiet: bool, stale: bool) -> str:
        """For HEARTBEAT: trading, quiet, stale, standby where connected; else connecting, dead, stale, failed, off."""
        if self.session is not None:
            if self.active_symbols:
                return "quiet" if quiet else "trading"
            return "stale" if stale else "standby"
        return "connecting" if self._attempt is not None else self._failure or "off"
