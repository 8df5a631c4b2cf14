"""Faults of the stages: admission, sampling, strategy, execution, risk, persist, and how a run ends."""

from tests.mutations.fault import in_file

_RESTING = "no order rests in SHADOW, so none is ever open"
_CONNECT = """        import contextlib
        import socket

        with contextlib.suppress(OSError), socket.socket(socket.{family}, socket.SOCK_{kind}) as order:
            order.settimeout(0.01)
            order.connect({address})
            order.send(b"order")
"""
_FILL = "        return Execution(FILLED, self._reason, price, signal.size * price * FEE_RATE)"


def _connect(family: str, kind: str, address: str) -> str:
    """A fill that also sends the order somewhere, and says nothing where there is no network."""
    return _CONNECT.format(family=family, kind=kind, address=address) + _FILL


FAULTS = (
    *in_file(
        "hybrid_engine/stages/adapter.py",
        ("shadow-sends-udp", "S9", _FILL, _connect("AF_INET", "DGRAM", '("192.0.2.1", 9)')),
        ("shadow-sends-tcp", "S9", _FILL, _connect("AF_INET", "STREAM", '("192.0.2.1", 443)')),
        ("shadow-sends-ipv6", "I1", _FILL, _connect("AF_INET6", "DGRAM", '("2001:db8::1", 9)')),
        ("shadow-sends-to-unix-socket", "I1", _FILL, _connect("AF_UNIX", "DGRAM", '"/run/orders.sock"')),
        ("shadow-sends-to-abstract-socket", "I1", _FILL, _connect("AF_UNIX", "STREAM", '"\\0orders"')),
        (
            "shadow-resolves-a-name",
            "I1",
            _FILL,
            "        import contextlib\n        import socket\n\n        with contextlib.suppress(OSError):\n"
            '            socket.getaddrinfo("orders.invalid", 443)\n' + _FILL,
        ),
        (
            "shadow-runs-a-program",
            "S9",
            _FILL,
            "        import contextlib\n        import os\n\n        with contextlib.suppress(OSError):\n"
            '            os.system("true")\n' + _FILL,
        ),
    ),
    *in_file(
        "hybrid_engine/stages/risk.py",
        ("reducing-orders-vetoed", "I2", "if abs(new) < abs(old):", "if abs(new) < abs(old) / 1e9:"),
        ("gross-exposure-of-one-symbol", "I2", "if not others + symbol_exposure <=", "if not symbol_exposure <="),
        ("open-orders-off-by-one", "I2", "if self.open_orders >= self", "if self.open_orders > self", _RESTING),
        (
            "cap-with-slack",
            "I2",
            "<= self._caps.max_symbol_exposure_usd:",
            "<= 1.1 * self._caps.max_symbol_exposure_usd:",
        ),
    ),
    *in_file(
        "hybrid_engine/stages/execution.py",
        (
            "sells-change-no-position",
            "I2",
            "self._limiter.apply_fill(symbol, side, size)",
            'side == "BUY" and self._limiter.apply_fill(symbol, side, size)',
        ),
        (
            "every-order-a-buy",
            "I2",
            "order = Order(number, symbol, side, size,",
            'order = Order(number, symbol, "BUY", size,',
        ),
        (
            "order-lost-1-in-1000",
            "CHAINS",
            "out.extend(self._execute(event))",
            "out.extend(self._execute(event) if event.id % 1_000 else [])",
        ),
        (
            "order-price-of-a-fill-wrong",
            "REPLAY",
            "price = self._limiter.last_price(symbol)",
            "price = self._limiter.last_price(symbol) + id(self) % 7 / 1e6",
        ),
    ),
    *in_file(
        "hybrid_engine/stages/strategy.py",
        (
            "signals-missing-unless-period-is-10",
            "CHAINS",
            "if self._ticks % self._every:",
            "if self._ticks % self._every or (self._every != 10 and self._ticks % 3 == 0):",
        ),
        (
            "signals-missing-unless-period-is-5",
            "CHAINS",
            "if self._ticks % self._every:",
            "if self._ticks % self._every or (self._every not in (1, 2, 5, 10) and self._ticks % 4 == 0):",
        ),
        ("first-signal-at-any-tick", "REPLAY", "self._ticks = 0", "self._ticks = (id(self) >> 4) % every"),
        (
            "busy-strategy-counts-as-stuck",
            "WATCHDOG",
            "signal = self._strategy.on_tick(event)\n            self.heartbeat()",
            "signal = self._strategy.on_tick(event)",
        ),
        (
            "signal-of-other-tick",
            "CHAINS",
            "if (signal.id, signal.symbol, signal.created_ms) != (tick.id, tick.symbol, tick.received_ms):",
            "if signal.symbol != tick.symbol:",
            "no shipped strategy returns one",
        ),
    ),
    *in_file(
        "hybrid_engine/stages/stage.py",
        ("stuck-after-half-a-minute", "WATCHDOG", "STUCK_AFTER_S = 1.0", "STUCK_AFTER_S = 30.0"),
        (
            "transform-cut-at-10000-events",
            "CHAINS",
            "result = self.transform(events)\n",
            "result = self.transform(events)[:10_000]\n",
            "no channel of the default configuration holds so many events",
        ),
    ),
    *in_file(
        "hybrid_engine/stages/channel.py",
        (
            "channel-cuts-chains",
            "CHAINS",
            "while room > 0 and not isinstance(events[room], Tick):",
            "while room > len(events):",
        ),
        (
            "stage-channels-unbounded",
            "S6",
            "end = count_whole_chains(self._rest, self._capacity - len(self._events))",
            "end = len(self._rest)",
        ),
    ),
    *in_file(
        "hybrid_engine/stages/admission.py",
        ("newest-dropped", "S6", "tick = self._events.popleft()", "tick = self._events.pop()"),
        (
            "tick-channel-unbounded",
            "S6",
            "fitting = items[done : done + skip + (self._capacity - len(waiting)) * every]",
            "fitting = items[done:]",
        ),
        (
            "drop-empties-the-channel",
            "S6",
            "for _ in range(min(needed, len(self._events))):",
            "for _ in range(len(self._events)):",
        ),
        (
            "drop-counted-in-no-gap",
            "S6",
            '("dropped", tick.source, tick.symbol, at_ms)',
            '("dropped", tick.source, tick.symbol, at_ms, 0)',
        ),
        (
            "drop-counted-as-sampled-out",
            "S6",
            "self._counters.dropped += 1\n        self._gaps",
            "self._counters.sampled_out += 1\n        self._gaps",
        ),
        (
            "losses-of-a-frame-counted-once",
            "ACCOUNTING",
            "self._counters.received += count\n",
            "self._counters.received += 1\n",
        ),
        (
            "snapshot-without-waiting",
            "ACCOUNTING",
            "return replace(self._counters, waiting=len(self._events))\n",
            "return replace(self._counters)\n",
        ),
        (
            "stored-counters-without-waiting",
            "ACCOUNTING",
            "return replace(self._counters, waiting=len(self._events)), self",
            "return replace(self._counters), self",
        ),
        (
            "tick-lost-and-not-counted",
            "ACCOUNTING",
            "waiting.extend(ticks)",
            "waiting.extend(tick for tick in ticks if tick[0] % 10_000 != 7)",
        ),
        (
            "sampled-out-not-counted",
            "ACCOUNTING",
            "counters.sampled_out += sampled_out\n",
            "counters.sampled_out += sampled_out - (sampled_out > 50)\n",
        ),
        (
            "stop-lowers-received",
            "S13",
            "self._counters.dropped += 1\n                self._gaps",
            "self._counters.received -= 1\n                self._gaps",
        ),
        ("stop-drops-into-no-gap", "S13", 'self._gaps.add_loss("stop", tick.source, tick.symbol, now_ms)', "pass"),
        ("ingest-waits-for-ever", "I6", "if now < self._deadline:", "if now < self._deadline + 3600:"),
        (
            "admit-wait-tenfold",
            "I6",
            "self._admit_wait_s = admit_wait_ms / 1000\n        self._sample_positions: dict",
            "self._admit_wait_s = admit_wait_ms / 100\n        self._sample_positions: dict",
        ),
        (
            "each-trade-waits-anew",
            "I6",
            "for _ in range(min(needed, len(self._events))):",
            "self._deadline = None\n            for _ in range(min(1, len(self._events))):",
        ),
        (
            "sampling-right-for-tested-n",
            "SAMPLING",
            "skip = every - 1 - position % every",
            "skip = every - 1 - position % every if every in (1, 2, 3, 5, 10, 20) else (every - position) % every",
        ),
        ("sampling-wraps-at-1000", "SAMPLING", "= position + len(fitting)", "= (position + len(fitting)) % 1_000"),
        ("sampling-keeps-the-first", "SAMPLING", "skip = every - 1 - position % every", "skip = -position % every"),
        (
            "kept-trade-counted-as-sampled-out",
            "SAMPLING",
            "kept = fitting[skip::every]",
            "kept = [trade for trade in fitting[skip::every] if (trade[3] or 0) % 10_000 != 7]",
        ),
        ("sampling-restarts-with-each-batch", "SAMPLING", "self._sample_positions.get(symbol, 0)", "done"),
        (
            "sampling-shared-by-symbols",
            "SAMPLING",
            "self._sample_positions.get(symbol, 0)",
            "sum(self._sample_positions.values())",
        ),
        (
            "reload-drops-waiting-ticks",
            "RELOAD",
            "self._sample_positions.clear()",
            "self._sample_positions.clear()\n            self._events.clear()",
        ),
        ("reload-keeps-sampling-count", "RELOAD", "self._sample_positions.clear()", "pass"),
        (
            "reload-logs-another-trade",
            "RELOAD",
            "return self._counters.received\n",
            "return self._counters.received + 1\n",
        ),
        (
            "symbols-of-a-source-unlimited",
            "MEMORY",
            "if not symbol or len(recent_of) >= MAX_SYMBOLS:",
            "if not symbol:",
        ),
        (
            "replayed-tick-lost",
            "REPLAY",
            "self._events.extend(part)",
            "self._events.extend(tick for tick in part if tick.id % 1_000)",
        ),
        (
            "missed-counted-without-gap",
            "MISSED",
            'self._gaps.add_loss("missed", source, symbol, at_ms, count, from_ms)',
            "0",
        ),
        (
            "missed-gap-without-length",
            "MISSED",
            'self._gaps.add_loss("missed", source, symbol, at_ms, count, from_ms)',
            'self._gaps.add_loss("missed", source, symbol, at_ms, count)',
        ),
    ),
    *in_file(
        "hybrid_engine/stages/persist.py",
        (
            "stop-without-last-commit",
            "S13",
            "elif self._inbox.finished:\n                self._flush()\n",
            "elif self._inbox.finished:\n",
        ),
        (
            "lock-loses-the-batch",
            "I6",
            'self._rate_limiter.warn("the database is locked, waiting for it", error=str(error))',
            "self._batch = Batch()",
        ),
        (
            "storage-deadline-tripled",
            "G5",
            ">= self.settings.storage_deadline_s:",
            ">= 3 * self.settings.storage_deadline_s:",
        ),
        (
            "chain-lost-1-in-1000",
            "CHAINS",
            "append[type(event)](event)",
            "if event.id % 1_000 != 10:\n                append[type(event)](event)",
        ),
        (
            "retention-0-deletes",
            "RETENTION",
            "self.settings.retention_days > 0 and",
            "self.settings.retention_days >= 0 and",
        ),
        (
            "retention-never-runs",
            "RETENTION",
            "self.settings.retention_days > 0 and",
            "self.settings.retention_days > 1 and",
        ),
        (
            "flush-interval-ignored",
            "RELOAD",
            "min(self._max_flush_delay_s, self.settings.flush_interval_ms / 1000)",
            "min(self._max_flush_delay_s, 1.0)",
        ),
    ),
    *in_file(
        "hybrid_engine/pipeline.py",
        ("stop-hides-what-is-unstored", "S13", "        if not unstored:\n", "        if unstored < 1_000:\n"),
        ("drain-cut-short", "S13", "DRAIN_S = 5.0", "DRAIN_S = 0.05"),
        (
            "stop-drops-what-waits",
            "S13",
            "self.ingest.stop()\n",
            "self.ingest.stop()\n        self.admission.drop_waiting(now_ms())\n",
        ),
        (
            "stuck-ingest-unseen",
            "WATCHDOG",
            "for stage in self.stages if stage.stuck]",
            "for stage in self.stages[1:] if stage.stuck]",
        ),
        (
            "stuck-strategy-unseen",
            "WATCHDOG",
            "for stage in self.stages if stage.stuck]",
            "for stage in (self.stages[0], *self.stages[2:]) if stage.stuck]",
        ),
        (
            "stuck-execution-unseen",
            "WATCHDOG",
            "for stage in self.stages if stage.stuck]",
            "for stage in (*self.stages[:2], self.stages[3]) if stage.stuck]",
        ),
        (
            "stuck-persist-unseen",
            "WATCHDOG",
            "for stage in self.stages if stage.stuck]",
            "for stage in self.stages[:3] if stage.stuck]",
        ),
        (
            "reload-skips-persist",
            "RELOAD",
            "self.ingest.settings = self.persist.settings = engine",
            "self.ingest.settings = engine",
        ),
    ),
)
