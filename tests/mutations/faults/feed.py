"""Faults of the feed: failover, silences, standby, planned moves, pace, sequence numbers, bounded memory."""

from tests.mutations.fault import in_file

_ANSWERS = "the proofs' exchange has its streams in its URL, and acknowledges or refuses none"
_MINUTE = "it shows after a minute of refused attempts, and a proof has seconds"
_DAYS = "it shows after minutes or days of service, and a proof has seconds"
_IN_ORDER = "the proofs' exchange sends its numbers in order"
_HOSTILE = "the exchange that triggers it is hostile, which no proof's exchange is"

FAULTS = (
    *in_file(
        "hybrid_engine/ingest/feed.py",
        ("down-without-gap", "FAILOVER", 'self._delivery.begin_silence("down", source.name, symbol, from_ms)', "pass"),
        (
            "down-gap-begins-late",
            "FAILOVER",
            '("down", source.name, symbol, from_ms)',
            '("down", source.name, symbol, now_ms())',
        ),
        (
            "down-gap-of-other-kind",
            "FAILOVER",
            '("down", source.name, symbol, from_ms)',
            '("stale", source.name, symbol, from_ms)',
        ),
        ("silence-ends-only-with-the-run", "FAILOVER", "self._delivery.end_silences(source, now_ms())", "pass"),
        (
            "quiet-market-ends-the-run",
            "QUIET",
            "if any(source.session is not None and source.session.subscription.may_be_quiet for source"
            " in self._sources):",
            "if not self._sources:",
            _DAYS,
        ),
        (
            "stale-gap-begins-late",
            "STALE",
            "from_ms = now_ms() - round((now - change.silent_since) * 1000)",
            "from_ms = now_ms()",
        ),
        ("stale-source-connects-at-once", "STALE", "source.mark_stale(now, self.settings.failback_after_s)", "pass"),
        (
            "numbers-go-on-behind-another-source",
            "MISSED",
            "source.sequence.start_connection(lambda s: active[names.own_symbol(s)].last_useful is source)",
            "source.sequence.start_connection(lambda s: bool(active) and bool(names))",
        ),
        (
            "numbers-restart-with-each-connection",
            "MISSED",
            "source.sequence.start_connection(lambda s: active[names.own_symbol(s)].last_useful is source)",
            "source.sequence.start_connection(lambda s: not active and not names)",
        ),
        (
            "pending-gaps-lost-at-stop",
            "MISSED",
            'self._delivery.flush_expired(float("inf"))',
            "self._delivery.flush_expired(0.0)",
        ),
        (
            "move-leaves-unread-trades",
            "MOVES",
            "self._delivery.deliver(source, old, old.connection.receive(), self.settings.parse_error_limit)",
            "old.connection.receive()",
        ),
        (
            "network-deadline-doubled",
            "G5",
            "deadline_s = self.settings.network_deadline_s",
            "deadline_s = 2 * self.settings.network_deadline_s",
        ),
        (
            "parse-error-of-one-source",
            "G5",
            "if all(source.undecodable for source in self._sources):",
            "if any(source.undecodable for source in self._sources):",
        ),
        ("idle-source-connects-at-once", "PACE", "if source.idle and source.retry.retry_at <= now:", "if source.idle:"),
    ),
    *in_file(
        "hybrid_engine/ingest/delivery.py",
        (
            "secondary-loses-1-in-1000",
            "FAILOVER",
            "trades = batch.trades\n",
            "trades = [t for t in batch.trades if source.priority < 2 or (t.exchange_id or 0) % 1_000 != 7]\n",
        ),
        (
            "secondary-loses-1-in-10000",
            "FAILOVER",
            "trades = batch.trades\n",
            "trades = [t for t in batch.trades if source.priority < 2 or (t.exchange_id or 0) % 10_000 != 7]\n",
        ),
        (
            "secondary-repeats-trades",
            "FAILOVER",
            "trades, duplicates = source.failover_trades.split(trades, now)",
            "_, duplicates = source.failover_trades.split(trades, now)",
        ),
        (
            "secondary-price-of-last-trade",
            "FAILOVER",
            "trades = batch.trades\n",
            "trades = batch.trades\n        if source.priority > 1:\n"
            "            trades = [trade._replace(price=trades[0].price) for trade in trades]\n",
        ),
        (
            "source-stored-by-kind",
            "BYTES",
            "\n        self._recent_trades.add(source.name, trades)\n"
            "        self._admission.offer_trades(source.name, trades",
            "\n        self._recent_trades.add(source.name, trades)\n"
            "        self._admission.offer_trades(source.config.kind, trades",
        ),
        (
            "heartbeats-count-as-trades",
            "STALE",
            "for symbol in batch.traded_symbols:\n                source.traded_at",
            "for symbol in batch.traded_symbols or (source.symbols if batch.valid else ()):\n"
            "                source.traded_at",
        ),
        (
            "close-notice-ignored",
            "MOVES",
            "session.closing_reason = batch.closing_reason\n",
            'session.closing_reason = ""\n',
        ),
        (
            "moved-trades-lost",
            "MOVES",
            "new, _ = source.moved_trades.split(trades, 0.0)",
            "_, new = source.moved_trades.split(trades, 0.0)",
        ),
        ("moved-trades-repeated", "MOVES", "new, _ = source.moved_trades.split(trades, 0.0)", "new = trades"),
        ("standby-repeats-accepted-trades", "STANDBY", "self._accepted_at.get(symbol, 0.0), accepted)", "0.0)"),
        (
            "rejected-frames-uncounted",
            "ACCOUNTING",
            'self._admission.count_loss("rejected", source.name, source.names.default, received_ms)',
            "pass",
        ),
        ("missing-numbers-kept-silent", "MISSED", "if missed := gap.count:", "if (missed := gap.count) > 1:"),
    ),
    *in_file(
        "hybrid_engine/domain/accounting.py",
        ("silence-gap-ends-early", "FAILOVER", "self._close(key, to_ms)\n", "self._close(key, to_ms - 1000)\n"),
        ("silence-gap-with-a-count", "FAILOVER", "self._begin(key, from_ms, None)", "self._begin(key, from_ms, 0)"),
        (
            "loss-gap-counts-one",
            "MISSED",
            "gap.count = (gap.count or 0) + count",
            "gap.count = (gap.count or 0) + min(count, 100)",
        ),
        (
            "gap-ends-at-the-heartbeat",
            "MISSED",
            "self._close(key, now_ms if silent else gap.last_ms)",
            "self._close(key, now_ms)",
        ),
        ("heartbeat-without-feed", "G4", "for part in (stages, admission, feed):", "for part in (stages, admission):"),
        (
            "heartbeat-without-zeros",
            "G4",
            'if item.name != "state")',
            "for item in fields(part) if getattr(part, item.name) != 0)",
        ),
    ),
    *in_file(
        "hybrid_engine/domain/deduplication.py",
        (
            "ids-never-forgotten",
            "MEMORY",
            "if len(ids) > REMEMBERED_IDS + SPARE_IDS:",
            "if len(ids) > 10**9:",
            _HOSTILE,
        ),
        (
            "unordered-trade-is-a-duplicate",
            "MISSED",
            "if self._ascending < len(ids):\n                known = trade_id in ids",
            "if self._ascending < len(ids):\n                known = True",
            _IN_ORDER,
        ),
    ),
    *in_file(
        "hybrid_engine/ingest/connection.py",
        ("no-ping-in-a-quiet-market", "QUIET", ">= dead_after_s / 3:", ">= dead_after_s * 3:"),
        (
            "pong-is-no-sign-of-life",
            "QUIET",
            "message = self._handle_frame(ws.recv_frame())\n            self._received_at = time.monotonic()",
            "message = self._handle_frame(ws.recv_frame())",
        ),
        (
            "frames-of-any-length",
            "MEMORY",
            "if bufsize > MAX_MESSAGE_BYTES:",
            "if bufsize > 100 * MAX_MESSAGE_BYTES:",
            _HOSTILE,
        ),
        (
            "fragments-without-limit",
            "MEMORY",
            "if len(self._partial) > MAX_MESSAGE_BYTES:",
            "if len(self._partial) > 100 * MAX_MESSAGE_BYTES:",
            _HOSTILE,
        ),
        ("endless-handshake", "MEMORY", "if self._remaining < 0 or time", "if time", _HOSTILE),
    ),
    *in_file(
        "hybrid_engine/ingest/connection_attempt.py",
        (
            "bug-of-a-library-ends-the-thread",
            "BYTES",
            "except Exception as error:  # noqa: BLE001 - an",
            "except EOFError as error:  # an",
            _HOSTILE,
        ),
    ),
    *in_file(
        "hybrid_engine/ingest/failure.py",
        ("retry-after-of-503-ignored", "PACE", "return retry_s or 0.0 if status == 503 else 0.0", "return 0.0"),
        (
            "retry-after-capped-at-10-s",
            "PACE",
            "LIMITED_HOLD_S if retry_s is None else retry_s",
            "LIMITED_HOLD_S if retry_s is None else min(retry_s, 10.0)",
        ),
    ),
    *in_file(
        "hybrid_engine/ingest/retry_policy.py",
        ("attempts-30-a-minute", "PACE", "ATTEMPTS_A_MINUTE = 12", "ATTEMPTS_A_MINUTE = 30", _MINUTE),
        ("attempts-13-a-minute", "PACE", "ATTEMPTS_A_MINUTE = 12", "ATTEMPTS_A_MINUTE = 13", _MINUTE),
        ("minute-of-20-s", "PACE", "MINUTE_S = 60.0", "MINUTE_S = 20.0", _MINUTE),
        ("hold-ignored", "PACE", "self._retry_at = now + max(pause_s, hold_s)", "self._retry_at = now + pause_s"),
        (
            "trial-pauses-do-not-grow",
            "FAILBACK",
            "pause_s = failback_after_s / 4 * 2 ** min(self._failed_trials, 16)",
            "pause_s = failback_after_s / 4",
            _DAYS,
        ),
        (
            "trial-pause-resets-at-once",
            "FAILBACK",
            "if useful_s >= STEADY_FACTOR * failback_after_s:",
            "if useful_s >= 0:",
            _DAYS,
        ),
    ),
    *in_file(
        "hybrid_engine/ingest/recent_trades.py",
        ("recent-trades-unbounded", "MEMORY", "deque(maxlen=self._size)", "deque()", _HOSTILE),
        (
            "duplicates-known-for-no-time",
            "STANDBY",
            "self._closes_at = now + DUPLICATE_WINDOW_S",
            "self._closes_at = now",
            "the proofs' exchanges have no trade in common",
        ),
    ),
    *in_file(
        "hybrid_engine/ingest/replay.py",
        ("replay-of-part-of-a-run", "REPLAY", "    if expired:\n", "    if expired > 10**9:\n"),
    ),
    *in_file(
        "hybrid_engine/ingest/sequence_gaps.py",
        ("single-numbers-not-missed", "MISSED", "0 < first - next_due <= MAX_JUMP", "1 < first - next_due <= MAX_JUMP"),
        ("missed-count-off-by-one", "MISSED", "sum(last - first + 1 for", "sum(last - first for"),
        (
            "late-numbers-count-as-missed",
            "MISSED",
            "if gap.key == key and len(gap.ranges) < MAX_PENDING:",
            "if gap.key is key and gap.count < 0:",
            _IN_ORDER,
        ),
        ("no-time-for-late-numbers", "MISSED", "LATE_S = 1.0", "LATE_S = 0.0", _IN_ORDER),
        ("pending-gaps-unbounded", "MEMORY", " or len(self._pending) > MAX_PENDING)", ")", _HOSTILE),
        (
            "tracked-symbols-unbounded",
            "MEMORY",
            "if next_due is None and len(due) >= MAX_SYMBOLS:",
            "if next_due is None and len(due) >= 10**9:",
            _HOSTILE,
        ),
    ),
    *in_file(
        "hybrid_engine/ingest/session.py",
        (
            "standby-keeps-nothing",
            "STANDBY",
            "len(self._standby_trades) >= MAX_KEPT_SYMBOLS:",
            "len(self._standby_trades) >= 0:",
        ),
        (
            "standby-keeps-8-trades",
            "STANDBY",
            "setdefault(name, deque(maxlen=self._max_kept))",
            "setdefault(name, deque(maxlen=8))",
        ),
        (
            "standby-loses-first-of-batch",
            "STANDBY",
            "yield received_ms, [trade for _, _, trade in group]",
            "yield received_ms, [trade for _, _, trade in group][1:]",
        ),
        (
            "unknown-symbols-unlimited",
            "MEMORY",
            "if self._unknown_count >= MAX_UNKNOWN_SYMBOLS:",
            "if self._unknown_count >= 10**9:",
            _HOSTILE,
        ),
    ),
    *in_file(
        "hybrid_engine/ingest/source_selector.py",
        (
            "quiet-counts-as-stale",
            "QUIET",
            "self.quiet, self.quiet_at, self.suspect_since = True, now, None\n",
            'if others:\n                    return others[0], "stale"\n',
            _DAYS,
        ),
        (
            "probes-never-rarer",
            "QUIET",
            "max(2 * self.probe_pause_s, rules.stale_after_s)",
            "rules.stale_after_s / 100",
            _DAYS,
        ),
        (
            "stale-never-found",
            "STALE",
            "if now - silent_since >= rules.stale_after_s:",
            "if now - silent_since >= 1000 * rules.stale_after_s:",
        ),
        (
            "stale-source-comes-back",
            "STALE",
            'if old is not None and reason == "stale":',
            'if old is not None and reason == "never":',
        ),
        (
            "failback-unproven",
            "FAILBACK",
            "if source.last_seen_at - useful_since < rules.failback_after_s:",
            "if source.last_seen_at < useful_since:",
        ),
        ("failback-never", "FAILBACK", 'return source, "better"', 'return None, ""'),
        (
            "failback-to-one-that-lags",
            "FAILBACK",
            "return source.traded_at[self.symbol] >= newest - rules.stale_after_s",
            "return newest > 0",
        ),
        ("standby-not-connected", "STANDBY", 'if rules.standby == "hot" and', 'if rules.standby == "warm" and'),
        ("slow-source-waited-for", "FAILOVER", "SLOW_CONNECT_S = 1.0", "SLOW_CONNECT_S = 60.0"),
    ),
    *in_file(
        "hybrid_engine/ingest/source_state.py",
        ("moves-too-late", "MOVES", "MOVE_AFTER = (0.9, 0.98)", "MOVE_AFTER = (1.1, 1.2)", _DAYS),
        ("moves-without-overlap", "MOVES", "OVERLAP_S = 1.0", "OVERLAP_S = -1.0"),
        (
            "moves-not-counted-as-attempts",
            "PACE",
            "self.retry.record_attempt(now)",
            "self.session or self.retry.record_attempt(now)",
            _DAYS,
        ),
        ("undecodable-source-is-usable", "G5", "usable = traded or not self.undecodable", "usable = True"),
    ),
    *in_file(
        "hybrid_engine/ingest/synthetic.py",
        (
            "synthetic-not-of-the-seed",
            "REPLAY",
            "generator = random.Random(seed)",
            "generator = random.Random()",
            "a replay repeats the ticks, not their making",
        ),
    ),
    *in_file(
        "hybrid_engine/ingest/subscription.py",
        ("life-is-use", "USE", "if self.may_be_quiet and now", "if now", _ANSWERS),
        (
            "missing-answers-forgiven",
            "USE",
            "return set(self.unanswered) if now - self._asked_at >= limit_s else set()",
            "return set()",
            _ANSWERS,
        ),
        (
            "refusal-of-one-is-of-all",
            "USE",
            "meant = [symbol for symbol in symbols if normalize_symbol(symbol) in words]",
            "meant = list(symbols)",
            _ANSWERS,
        ),
        (
            "babble-is-quiet",
            "USE",
            "not (self.unknown_frames or self._must_subscribe)",
            "not self._must_subscribe",
            _ANSWERS,
        ),
        ("babble-untold", "USE", "self._unknown_told = True\n        return True", "return False", _ANSWERS),
    ),
    *in_file(
        "hybrid_engine/ingest/source_state.py",
        ("refused-symbol-asked-at-once", "USE", "self.refused.get(symbol, now) <= now", "True", _ANSWERS),
        ("refused-symbol-still-its-own", "USE", " and symbol not in self.refused\n", "\n", _ANSWERS),
    ),
    *in_file(
        "hybrid_engine/ingest/symbol_watch.py",
        (
            "never-traded-untold",
            "UNFED",
            "elif traded_at is None and rules.never_traded_after_s and",
            "elif False and",
            _ANSWERS,
        ),
        ("limit-of-a-source-unheard", "UNFED", "source.config.silent_limit_s(symbol) or ", "", _ANSWERS),
        ("refused-symbol-not-named", "UNFED", "if before is None or before.name != REFUSED:", "if False:", _ANSWERS),
        (
            "told-again-and-again",
            "UNFED",
            "if before is not None or not source.in_use",
            "if not source.in_use",
            _ANSWERS,
        ),
        ("silent-source-as-provider", "UNFED", " or (provider, symbol) in self._reasons else", " else", _ANSWERS),
    ),
    *in_file(
        "hybrid_engine/ingest/source_state.py",
        (
            "hold-forgotten-at-the-end",
            "PACE",
            "self.held_until_ms = now_ms() + round(error.hold_s * 1000)",
            "pass",
            _MINUTE,
        ),
        ("hold-not-taken-over", "PACE", "self.retry.hold(now + hold_s)\n", "pass\n", _MINUTE),
    ),
    *in_file(
        "hybrid_engine/exchanges/base.py",
        ("errors-in-other-words-unheard", "USE", 'or frame.get("success") is False\n', "or False\n", _ANSWERS),
    ),
)
