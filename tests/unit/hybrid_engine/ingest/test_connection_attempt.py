"""Connecting and reading on real sockets: the rate of attempts, a slow connection, a large read."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import trustme

from hybrid_engine.config.sources import Source
from hybrid_engine.ingest import connection, retry_policy, source_selector
from hybrid_engine.ingest.connection_attempt import ConnectionAttempt
from hybrid_engine.ingest.failure import SourceFailed
from tests.support.feed_harness import FeedHarness, source
from tests.support.process import wait_until
from tests.support.scripted_exchange import ScriptedExchange, trade

pytestmark = pytest.mark.usefixtures("fast_feed")


@pytest.mark.holds("PACE")
def test_attempts_per_minute_are_limited(primary: ScriptedExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_policy, "LONGEST_PAUSE_S", 0.001)  # the least that the jitter can draw: no pause
    monkeypatch.setattr(retry_policy, "MINUTE_S", 2.0)
    primary.closes_at_once = True
    with FeedHarness(source("primary", primary, "BTC/USD")) as harness:
        harness.wait_until(lambda: len(primary.attempts) == 3 * retry_policy.ATTEMPTS_A_MINUTE)
        for earlier, later in zip(primary.attempts, primary.attempts[retry_policy.ATTEMPTS_A_MINUTE :], strict=False):
            assert later - earlier >= 1.9
        assert harness.feed.source_failures >= 3 * retry_policy.ATTEMPTS_A_MINUTE - 1


def test_refusing_source_is_not_retried_soon(primary: ScriptedExchange, secondary: ScriptedExchange) -> None:
    primary.refusal = b"HTTP/1.1 451 No\r\n\r\n"
    pair = source("primary", primary, "BTC/USD"), source("secondary", secondary, "BTC/USD", priority=2)
    with FeedHarness(*pair, failback_after_s=0.1) as harness:
        harness.wait_active("secondary")
        harness.wait_until(lambda: secondary.open_connections)
        for number in range(20):
            secondary.send(trade(number))
            harness.sleep(0.05)
        assert len(primary.attempts) == 1


def test_slow_connection_does_not_delay_next_source(
    secondary: ScriptedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_selector, "SLOW_CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers the request
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/ws/btcusdt@trade"
        hangs = Source("hangs", url, "binance", ("BTC/USD",), 1, "")
        with FeedHarness(hangs, source("secondary", secondary, "BTC/USD", priority=2)) as harness:
            started_at = time.monotonic()
            harness.wait_active("secondary")
            assert time.monotonic() - started_at < 5  # the connection times out after 8


def test_tls_record_larger_than_one_read_is_read_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A selector does not see bytes that the TLS layer has decrypted already."""
    monkeypatch.setattr(connection, "READ_BYTES", 5000)  # less than a TLS record can hold
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with ScriptedExchange(tls=context) as exchange:
        url = exchange.url().replace("ws://127.0.0.1", "wss://localhost")
        src = Source("tls", url, "binance", ("BTC/USD",), 1, str(tmp_path / "ca.pem"))
        with FeedHarness(src, dead_after_s=3600.0) as harness:  # so that no pong wakes it
            harness.wait_active("tls")
            harness.wait_until(lambda: exchange.open_connections)
            for sent in (3000, 6000):
                exchange.send(*(trade(number) for number in range(sent - 3000, sent)))
                harness.wait_until(partial(lambda count: len(harness.ids()) == count, sent))
            assert harness.ids() == list(range(6000))


@pytest.mark.holds("QUIET")
def test_open_connection_holds_off_network_deadline(primary: ScriptedExchange) -> None:
    primary.mute = True
    with FeedHarness(source("primary", primary, "BTC/USD"), network_deadline_s=0.4) as harness:
        harness.wait_active("primary")
        harness.wait_until(lambda: primary.open_connections)
        harness.sleep(1.0)
        assert harness.ingest.failure is None
        assert harness.ingest.is_alive()


def test_failed_import_is_named_as_failure(primary: ScriptedExchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hybrid_engine.ingest.connection", None)  # as in a broken installation
    attempt = ConnectionAttempt(source("primary", primary, "BTC/USD"), ("BTC/USD",), lambda: None)
    with pytest.raises(SourceFailed, match=r"hybrid_engine\.ingest\.connection"):
        wait_until(attempt.result, "the result of the attempt")
