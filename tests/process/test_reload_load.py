"""Reloads during a flood: nothing is lost, and each takes effect at the trade that it logged."""

from __future__ import annotations

import signal

import pytest

from proofs.mock_exchange import MockExchange
from tests.support.accounting import check_finished, rows
from tests.support.process import Launcher

COUNT = 12_000
SPANS = (3, 1, 7, 2, 5, 1, 4)


@pytest.mark.holds("SAMPLING", "RELOAD")
def test_reloads_under_load_lose_nothing(engine: Launcher) -> None:
    settings = {
        "ingest_mode": "MOCK_WS",
        "admit_wait_ms": 1000,  # no deadline for admission: whatever is missing in the end was lost by a reload
        "sample_every": 2,
        "batch_rows": 20,
        "run_seconds": 600,
    }
    with MockExchange(rate=1500, seed=11, count=COUNT, heartbeat=0.2) as exchange:
        settings["ws_url"] = exchange.url("binance", "btcusdt")
        process = engine.start(engine=settings, channels={"tick": 1000})
        process.heartbeat(lambda f: f["received"] > 100)
        for turn, every in enumerate(SPANS):
            changed = {
                "sample_every": every,
                "log_level": ("DEBUG", "INFO")[turn % 2],
                "batch_rows": 5 + 40 * turn,
                "flush_interval_ms": 5 + turn,
                "dead_after_s": 5.0 + turn,
                "network_deadline_s": 50.0 + turn,
                "parse_error_limit": 10 + turn,
                "storage_deadline_s": 5.0 + turn,
                "overload_after_s": 20.0 + turn,
            }
            engine.write_config({"engine": {**settings, **changed}})
            output = len(process.lines)
            process.send(signal.SIGHUP)
            reloaded = process.wait("reloaded", after=output)
            assert set(reloaded["changed"]) >= {f"engine.{name}" for name in changed if name != "log_level"}
            # More trades follow, under the new sampling.
            process.heartbeat(lambda f, n=reloaded["received"]: f["received"] > n + 100)  # type: ignore[misc]
        sent = exchange.wait(sent=COUNT, timeout=180)
        process.heartbeat(lambda f: f["received"] >= COUNT)
        assert process.stop() == 0
    assert sent["sent"] == COUNT
    run = check_finished(engine.db)
    lost = {name: run[name] for name in ("received", "dropped", "duplicate", "rejected")}
    assert lost == {"received": COUNT, "dropped": 0, "duplicate": 0, "rejected": 0}
    # The exchange numbers its trades 1, 2, 3 ..., so it is known exactly which of them must be stored.
    starts = [0, *(fields["received"] for fields in process.messages("reloaded")), COUNT]
    expected: list[int] = []
    for every, start, end in zip((2, *SPANS), starts, starts[1:], strict=False):
        expected += range(start + every, end + 1, every)
    assert starts == sorted(starts)
    assert [number for (number,) in rows(engine.db, "SELECT exchange_id FROM ticks ORDER BY id")] == expected
    # DEBUG lines begin with the first reload and end with the second.
    messages = [line["fields"]["message"] for line in process.lines]
    first, second = [at for at, message in enumerate(messages) if message == "reloaded"][:2]
    assert "batch flushed" not in messages[:first]
    assert "batch flushed" in messages[first:second]
