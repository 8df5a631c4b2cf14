"""Faults of what is stored: values that were not sent, rows that are lost while the counters agree."""

from tests.mutations.fault import in_file

_TICK = "tuple.__new__(Tick, (tick_id, source, symbol, price, size, number, at_ms, received_ms, filled))"


def _tick(**values: str) -> str:
    """The tick's constructor with other values."""
    names = ("tick_id", "source", "symbol", "price", "size", "number", "at_ms", "received_ms", "filled")
    return f"tuple.__new__(Tick, ({', '.join(values.get(name, name) for name in names)}))"


_NO_MESSAGE = "the message that triggers it has to come from a hostile exchange, which no proof's exchange is"
_ONE_TRADE = "the proofs' exchange has one trade in a frame, and this takes 256 of them"
_ONE_EXCHANGE = "the proofs' exchange speaks another protocol"

FAULTS = (
    *in_file(
        "hybrid_engine/stages/admission.py",
        ("price-wrong-1-in-10000", "BYTES", _TICK, _tick(price="price * (1 + (tick_id % 10_000 == 7) / 1e4)")),
        ("price-wrong-1-in-1000", "BYTES", _TICK, _tick(price="price + 0.01 * (tick_id % 1_000 == 7)")),
        ("size-wrong-1-in-1000", "BYTES", _TICK, _tick(size="size * (1 + (tick_id % 1_000 == 7))")),
        ("size-as-price-1-in-10000", "BYTES", _TICK, _tick(size="size if tick_id % 10_000 != 7 else price")),
        ("time-in-whole-seconds", "BYTES", _TICK, _tick(at_ms="at_ms // 1000 * 1000")),
        ("time-of-receipt-as-sent", "BYTES", _TICK, _tick(at_ms="received_ms")),
        ("number-off-by-one-rarely", "BYTES", _TICK, _tick(number="number and number + (tick_id % 1_000 == 7)")),
        ("number-lost-rarely", "BYTES", _TICK, _tick(number="number if tick_id % 1_000 != 7 else None")),
        ("source-in-capitals", "BYTES", _TICK, _tick(source="source.upper()")),
        ("symbol-cut", "BYTES", _TICK, _tick(symbol="symbol[:6]")),
    ),
    *in_file(
        "hybrid_engine/exchanges/binance.py",
        (
            "price-rounded-in-fast-path",
            "BYTES",
            "(frame.s, price, size, frame.number, frame.T)",
            "(frame.s, round(price, 1), size, frame.number, frame.T)",
        ),
        (
            "time-of-event-as-trade",
            "BYTES",
            "(frame.s, price, size, frame.number, frame.T)",
            "(frame.s, price, size, frame.number, frame.E)",
        ),
        ("underscores-pass-fast-path", "BYTES", '= b"0123456789."', '= b"0123456789._"', _NO_MESSAGE),
    ),
    *in_file(
        "hybrid_engine/exchanges/base.py",
        ("underscores-in-numbers", "BYTES", 'or "_" in value or', "or", _NO_MESSAGE),
        ("negative-amounts", "BYTES", "if not 0 < number < INFINITE:", "if not number < INFINITE:", _NO_MESSAGE),
        (
            "deep-nesting-ends-the-engine",
            "BYTES",
            "except (msgspec.MsgspecError, ValueError, RecursionError):\n        # 1e400",
            "except msgspec.DecodeError:\n        # 1e400",
            _NO_MESSAGE,
        ),
        ("time-rounded-up", "BYTES", "since.microseconds // 1000 + leap", "-(-since.microseconds // 1000) + leap"),
    ),
    *in_file(
        "hybrid_engine/exchanges/kraken.py",
        ("kraken-size-is-price", "BYTES", '"symbol", "price", "qty"', '"symbol", "price", "price"', _ONE_EXCHANGE),
    ),
    *in_file(
        "hybrid_engine/exchanges/coinbase.py",
        ("coinbase-history-as-trades", "BYTES", 'case "match":', 'case "match" | "last_match":', _ONE_EXCHANGE),
    ),
    *in_file(
        "hybrid_engine/ingest/session.py",
        (
            "every-symbol-is-the-default",
            "BYTES",
            "MarketTrade(name, *item[1:])",
            "MarketTrade(self.names.default, *item[1:])",
        ),
        (
            "last-trade-of-a-frame-lost",
            "BYTES",
            "trades_of_batch += items",
            "trades_of_batch += items[:255]",
            _ONE_TRADE,
        ),
    ),
    *in_file(
        "hybrid_engine/ingest/connection.py",
        (
            "long-messages-lose-a-byte",
            "BYTES",
            "messages.append(copy[start:end])",
            "messages.append(copy[start : end - (length > 4096)])",
        ),
    ),
    *in_file(
        "hybrid_engine/storage/store.py",
        (
            "tick-lost-1-in-10000",
            "S13",
            '{{}})", batch.ticks)',
            '{{}})", [tick for tick in batch.ticks if tick.id % 10_000 != 7])',
        ),
        (
            "tick-lost-1-in-1000",
            "S13",
            '{{}})", batch.ticks)',
            '{{}})", [tick for tick in batch.ticks if tick.id % 1_000 != 7])',
        ),
        (
            "trade-lost-1-in-1000",
            "CHAINS",
            '{6})", batch.trades)',
            '{6})", [trade for trade in batch.trades if trade.id % 1_000])',
        ),
        (
            "order-stored-with-other-size",
            "I2",
            '"({0}, {0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8})"',
            '"({0}, {0}, {1}, {2}, {3} / 2, {4}, {5}, {6}, {7}, {8})"',
        ),
        (
            "transaction-ends-after-ticks",
            "CHAINS",
            '        signals = "signals (id,',
            '        self._con.execute("COMMIT")\n        self._con.execute("BEGIN IMMEDIATE")\n'
            '        signals = "signals (id,',
        ),
        (
            "recovery-deletes-committed-trades",
            "CHAINS",
            "self._con.execute(_END_GAPS, (updated_ms, run_id))\n",
            "self._con.execute(_END_GAPS, (updated_ms, run_id))\n"
            '                self._con.execute("DELETE FROM trades WHERE created_ms > ?", (updated_ms - 2000,))\n',
        ),
        (
            "recovery-deletes-last-tick",
            "CHAINS",
            "self._con.execute(_END_GAPS, (updated_ms, run_id))\n",
            "self._con.execute(_END_GAPS, (updated_ms, run_id))\n                self._con.execute(\n"
            '                    "DELETE FROM ticks WHERE id = (SELECT max(id) FROM ticks)"\n'
            '                    " AND id NOT IN (SELECT id FROM signals)"\n                )\n',
        ),
        (
            "crash-gap-without-length",
            "REBOOT",
            "(run_id, updated_ms, max(updated_ms, started_ms))",
            "(run_id, updated_ms, updated_ms)",
        ),
        ("recovery-forgets-received", "REBOOT", "SET ended_ms = ?1 WHERE", "SET ended_ms = ?1, received = 0 WHERE"),
        (
            "commit-reads-every-tick",
            "GROWTH",
            "self._check()\n                self._insert(batch)",
            'self._check()\n                self._con.execute("SELECT sum(price) FROM ticks").fetchone()\n'
            "                self._insert(batch)",
        ),
        (
            "start-reads-every-tick",
            "GROWTH",
            "coalesce(max(id), 0) + 1 FROM ticks",
            "coalesce(max(+id), 0) + 1 FROM ticks",
        ),
        (
            "replay-in-another-order",
            "REPLAY",
            "WHERE run_id = ? ORDER BY id",
            "WHERE run_id = ? ORDER BY received_ms, -id",
        ),
        (
            "gaps-count-never-updated",
            "MISSED",
            "SET to_ms = excluded.to_ms, count = excluded.count",
            "SET to_ms = excluded.to_ms",
        ),
    ),
)
