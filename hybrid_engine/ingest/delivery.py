"""Delivers what the connections received to admission: trades, missing sequence numbers, and silences."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from hybrid_engine.domain.accounting import FeedState
from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import ALL, Mark
from hybrid_engine.ingest.failure import SourceFailed, SourceUndecodable, excerpt
from hybrid_engine.ingest.recent_trades import RecentTrades
from hybrid_engine.ingest.sequence_gaps import SequenceGap, SequenceGaps
from hybrid_engine.ingest.session import ParsedBatch, Session
from hybrid_engine.ingest.source_selector import SourceSelector
from hybrid_engine.ingest.source_state import ASK_AGAIN_S, SourceState
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.log import Logger, LogRateLimiter
from hybrid_engine.stages.admission import AdmissionQueue

log = Logger("hybrid_engine.ingest")


class Delivery:
    """`usable_at`: when a source was last usable (monotonic seconds)."""

    def __init__(
        self, admission: AdmissionQueue, feed: FeedState, selector: SourceSelector, heartbeat: Callable[[], None]
    ) -> None:
        self.usable_at = time.monotonic()
        self._admission = admission
        self._feed = feed
        self._selector = selector
        self._heartbeat = heartbeat
        shared_symbols = [symbol for symbol, active in selector.active.items() if len(active.sources) > 1]
        self._recent_trades = RecentTrades(shared_symbols)
        self._accepted_at: dict[str, float] = {}  # when the newest trade of each symbol was accepted
        self._silent: set[str] = set()  # symbols with an open gap
        self._gaps = SequenceGaps()
        self._rejection_limiter, self._gap_limiter = LogRateLimiter(log), LogRateLimiter(log)
        self._complaint_limiter = LogRateLimiter(log)

    def deliver(self, source: SourceState, session: Session, messages: Sequence[bytes], limit: int) -> None:
        """Decode the messages of one read and offer their trades. Raises SourceFailed when the source must be left."""
        now, received_ms = time.monotonic(), now_ms()
        active_symbols = source.active_symbols if session is source.session else frozenset()
        batch = session.parse(messages, active_symbols, now, received_ms, limit)
        for reason, message in batch.rejections:
            if active_symbols:
                self._admission.count_loss("rejected", source.name, source.names.default, received_ms)
            excerpt = message[:200].decode("utf-8", "replace")
            self._rejection_limiter.warn("frame rejected", source=source.name, reason=reason, frame=excerpt)
        self._note_answers(source, session, batch, now, received_ms)
        if batch.closing_reason and not session.closing_reason:
            session.closing_reason = batch.closing_reason
            log.info("the exchange will close this connection", source=source.name, reason=batch.closing_reason)
        if session is source.successor:
            session.marks += batch.marks
            if batch.valid and session.first_valid_at is None and session.subscription.may_be_quiet:
                session.first_valid_at = now
        else:
            if batch.marks:
                self.observe_marks(source, session, batch.marks, received_ms)
            if batch.history and active_symbols:
                self._fill(source, session, batch, received_ms)
            for symbol in batch.traded_symbols:
                source.traded_at[symbol] = now
            if batch.valid:
                self.mark_seen(source, session, now, received_ms, bool(batch.traded_symbols))
            if batch.trades:
                self._offer_batch(source, batch, now, received_ms)
        if session.errors_in_a_row >= limit:
            raise SourceUndecodable(f"{limit} undecodable trade frames in a row")

    def _note_answers(
        self, source: SourceState, session: Session, batch: ParsedBatch, now: float, received_ms: int
    ) -> None:
        """What the exchange says of the subscription. Raises SourceFailed where it will send nothing."""
        subscription = session.subscription
        if batch.valid or batch.trades or batch.rejections:
            subscription.note_known()
        elif batch.unknown:
            subscription.note_unknown(batch.unknown, now)
        if batch.traded_symbols and not (subscription.in_use and not subscription.unanswered and not source.refused):
            self._confirm(source, session, batch.traded_symbols)
        if batch.acknowledged:
            of_all = not set(ALL).isdisjoint(batch.acknowledged)
            named = {source.names.local_name(symbol) for symbol in batch.acknowledged if symbol not in ALL}
            self._confirm(source, session, set(subscription.unanswered) if of_all else named)
            if subscription.unanswered and subscription.answers_at_once:
                missing = sorted(subscription.unanswered)
                self.refuse(source, session, missing, "missing in what the exchange acknowledged", now, received_ms)
        for refusal in batch.refusals:
            unanswered = [symbol for symbol in source.symbols if symbol in subscription.unanswered]
            meant = subscription.meant_by(refusal, unanswered)
            if meant:
                self.refuse(source, session, meant, refusal.text, now, received_ms)
            elif subscription.in_use:
                self._complaint_limiter.warn("the exchange complains", source=source.name, reason=refusal.text)
                continue
            elif not subscription.may_ask_singly:
                raise SourceFailed(f"refused: {refusal.text}")
            for symbols in subscription.requests_after_refusal(now):
                session.connection.subscribe(symbols)

    def _confirm(self, source: SourceState, session: Session, symbols: Collection[str]) -> None:
        session.subscription.confirm(symbols)
        for symbol in source.refused.keys() & symbols:
            del source.refused[symbol]
            log.info("symbol accepted after all", source=source.name, symbol=symbol)

    def refuse(
        self, source: SourceState, session: Session, symbols: Sequence[str], text: str, now: float, received_ms: int
    ) -> None:
        """The exchange will not send these symbols. Raises SourceFailed where it will send none at all."""
        session.subscription.unanswered.difference_update(symbols)
        if not set(source.symbols) - source.refused.keys() - set(symbols):
            raise SourceFailed(f"refused: {text}")
        for symbol in symbols:
            if symbol not in source.refused:
                traded_at = source.traded_at.get(symbol)
                from_ms = session.connected_ms if traded_at is None else received_ms - round((now - traded_at) * 1000)
                if self._selector.active[symbol].source in (None, source):
                    self.begin_silence("down", source.name, symbol, from_ms)
            log.warn("symbol refused", source=source.name, symbol=symbol, reason=text, again_in_s=ASK_AGAIN_S)
            source.refuse(symbol, now)

    def check_answers(self, source: SourceState, session: Session, now: float, limit_s: float) -> None:
        """Refuse what was not acknowledged in time, ask again for what was refused, tell of what nobody understands.

        Raises SourceFailed as `refuse` does.
        """
        subscription = session.subscription
        overdue = sorted(subscription.overdue(now, limit_s))
        if overdue:
            self.refuse(source, session, overdue, f"not acknowledged within {limit_s:g} s", now, now_ms())
        if source.refused and session is source.session and min(source.refused.values()) <= now:
            again = [symbol for symbol in source.symbols_to_ask(now) if symbol in source.refused]
            session.connection.subscribe(again)
            subscription.ask(again, now)
        if subscription.nothing_understood(now, limit_s):
            about = {"frames": subscription.unknown_frames, "frame": excerpt(subscription.unknown_frame)}
            log.warn("nothing that the source sends is understood", source=source.name, **about)

    def _offer_batch(self, source: SourceState, batch: ParsedBatch, now: float, received_ms: int) -> None:
        """Offer the trades without those that its old connection, or the source active before, brought already."""
        trades = batch.trades
        for symbol in batch.traded_symbols:
            if symbol in source.active_symbols:
                self._accepted_at[symbol] = now
        if source.moving:
            source.moved_trades.trades.update(trades)
        elif source.moved_trades.trades:
            trades, _ = source.moved_trades.split(trades, now)
        if source.failover_trades.trades:
            trades, duplicates = source.failover_trades.split(trades, now)
            for trade in duplicates:
                self._admission.count_loss("duplicate", source.name, trade.symbol, received_ms)
        self._recent_trades.add(source.name, trades)
        for symbol in self._admission.offer_trades(source.name, trades, received_ms, self._heartbeat):
            source.sequence.forget([name for name in source.names.cache if source.names.cache[name] == symbol])

    def _fill(self, source: SourceState, session: Session, batch: ParsedBatch, received_ms: int) -> None:
        """Offer what the exchange repeats of its own accord after a reconnect, and did not arrive before.

        That is what is missing in its numbers. Where these do not count the trades, it is what is newer than the newest
        one that arrived.
        """
        filled: list[MarketTrade] = []
        counted = bool(batch.marks)
        newest = {} if counted else {s: self._admission.newest_number(source.name, s) for s in session.continued}
        for exchange_symbol, trade in batch.history:
            if trade.symbol not in source.active_symbols or trade.exchange_id is None:
                continue
            if not counted:
                if 0 <= newest.get(trade.symbol, -1) < trade.exchange_id:
                    filled.append(trade)
            elif gap := self._gaps.take((source.name, exchange_symbol, None), trade.exchange_id):
                filled.append(trade)
                if gap.row:
                    self._admission.uncount_missed(gap.row)
        if filled:
            self._feed.filled += len(filled)
            self._recent_trades.add(source.name, filled)
            self._admission.offer_trades(source.name, filled, received_ms, self._heartbeat, filled=True)
            log.info("filled what was missing, as the exchange repeats it", source=source.name, trades=len(filled))

    def mark_seen(
        self, source: SourceState, session: Session, now: float, received_ms: int, traded: bool = False
    ) -> None:
        """The connection in use delivered a valid frame or a pong; `traded`: the frames had trades.

        Before it has brought what it was asked for, that is a sign of life and none of use.
        """
        session.subscription.confirm_standing(now)
        if not session.subscription.in_use:
            return
        became_useful = source.useful_since is None
        self._feed.last_frame_ms = received_ms
        usable = source.mark_seen(now, received_ms, traded)
        if became_useful:
            self._selector.note_useful(source)
        if usable:
            self.usable_at = now
            if self._silent and source.active_symbols:
                self.end_silences(source, received_ms)

    def observe_marks(
        self, source: SourceState, session: Session, marks: Iterable[Sequence[Mark]], received_ms: int
    ) -> None:
        """Compare sequence numbers, message by message; missing ones count for active and for unknown symbols."""
        # A gap begins at the last frame before, so this comes before `mark_seen`.
        own, active_symbols, from_ms = source.symbols, source.active_symbols, source.last_seen_ms or received_ms
        for marks_of_message in marks:
            for exchange_symbol, first, last, lasting, missing in source.sequence.observe(marks_of_message):
                key = (source.name, exchange_symbol, None if lasting else session)
                if not missing:
                    self._gaps.fill(key, first, last)
                    continue
                symbol = source.names.local_name(exchange_symbol) if exchange_symbol or len(own) == 1 else ""
                if active_symbols and (symbol in active_symbols or symbol not in own):
                    ranges, now = [(first, last)], time.monotonic()
                    self._gaps.add(SequenceGap(key, source.name, symbol, ranges, from_ms, received_ms, now))

    def flush_expired(self, now: float) -> None:
        """Record the gaps whose numbers did not arrive late either."""
        for gap in self._gaps.pop_expired(now):
            if missed := gap.count:
                row = self._admission.count_missed(gap.source, gap.symbol, missed, gap.from_ms, gap.detected_ms)
                self._gaps.keep_counted(gap, row)
                fields = {"source": gap.source, "symbol": gap.symbol, "missed": missed}
                self._gap_limiter.warn("sequence numbers are missing", **fields)

    def offer_standby_trades(self, source: SourceState, session: Session, symbol: str) -> None:
        """Offer the trades of `symbol` since the last accepted one, for `source` is active now."""
        now = time.monotonic()
        if accepted := self._recent_trades.from_others(source.name, symbol):
            source.failover_trades.extend(accepted, now)
        for received_ms, trades in session.pop_standby_trades(symbol, self._accepted_at.get(symbol, 0.0), accepted):
            self._end_silence(symbol, received_ms)
            self._recent_trades.add(source.name, trades)
            self._admission.offer_trades(source.name, trades, received_ms, self._heartbeat)
            self._accepted_at[symbol] = time.monotonic()

    def offer_moved_trades(self, source: SourceState, session: Session, symbol: str) -> None:
        """Offer the trades of `symbol` that the new connection received and the one it replaces did not."""
        for received_ms, trades in session.pop_standby_trades(symbol, 0.0):
            new, _ = source.moved_trades.split(trades, 0.0)
            self._admission.offer_trades(source.name, new, received_ms, self._heartbeat)

    def begin_silence(self, kind: str, source: str, symbol: str, from_ms: int) -> None:
        self._silent.add(symbol)
        self._admission.begin_silence(source, symbol, from_ms, kind)

    def end_silences(self, source: SourceState, to_ms: int) -> None:
        """End the silences of its active symbols, and those of symbols that no source is configured for."""
        for symbol in list(self._silent):
            if symbol in source.active_symbols or symbol not in self._selector.active:
                self._end_silence(symbol, to_ms)

    def _end_silence(self, symbol: str, to_ms: int) -> None:
        if symbol in self._silent:
            self._silent.remove(symbol)
            self._admission.end_silence(to_ms, symbol)
