"""How a source is connected to and read, on real sockets: how often, how fast, how much at once."""

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
from tests.support.feeding import Feeding, source
from tests.support.process import wait_until
from tests.support.talker import Talker, trade

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.holds("PACE")
def test_a_server_that_accepts_and_closes_sees_so_many_attempts_a_minute_and_no_more(
    one: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_policy, "LONGEST_PAUSE_S", 0.001)  # jitter at its unluckiest: no pause at all
    monkeypatch.setattr(retry_policy, "MINUTE_S", 2.0)
    one.hang_up = True
    with Feeding(source("first", one, "BTC/USD")) as feeding:
        feeding.until(lambda: len(one.tried) == 3 * retry_policy.ATTEMPTS_A_MINUTE)
        for earlier, later in zip(one.tried, one.tried[retry_policy.ATTEMPTS_A_MINUTE :], strict=False):
            assert later - earlier >= 1.9
        assert feeding.feed.source_failures >= 3 * retry_policy.ATTEMPTS_A_MINUTE - 1


def test_a_refusal_is_not_asked_again_soon_and_the_next_source_is(one: Talker, two: Talker) -> None:
    one.answer = b"HTTP/1.1 451 No\r\n\r\n"
    pair = source("first", one, "BTC/USD"), source("second", two, "BTC/USD", priority=2)
    with Feeding(*pair, failback_after_s=0.1) as feeding:
        feeding.leads("second")
        feeding.until(lambda: two.open)
        for number in range(20):
            two.say(trade(number))
            feeding.rest(0.05)
        assert len(one.tried) == 1


def test_a_source_that_takes_its_time_to_connect_does_not_hold_up_the_next(
    two: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_selector, "SLOW_CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and never answers the request
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/ws/btcusdt@trade"
        hangs = Source("hangs", url, "binance", ("BTC/USD",), 1, "")
        with Feeding(hangs, source("second", two, "BTC/USD", priority=2)) as feeding:
            began = time.monotonic()
            feeding.leads("second")
            assert time.monotonic() - began < 5  # its own time-out comes after 8


def test_a_hand_over_larger_than_a_read_is_whole_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies decrypted in the TLS layer is seen by no selector."""
    monkeypatch.setattr(connection, "READ_BYTES", 5000)  # less than a record of TLS holds
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Talker(tls=context) as talker:
        url = talker.url().replace("ws://127.0.0.1", "wss://localhost")
        src = Source("tls", url, "binance", ("BTC/USD",), 1, str(tmp_path / "ca.pem"))
        with Feeding(src, dead_after_s=3600.0) as feeding:  # no pong is to wake it
            feeding.leads("tls")
            feeding.until(lambda: talker.open)
            for sent in (3000, 6000):
                talker.say(*(trade(number) for number in range(sent - 3000, sent)))
                feeding.until(partial(lambda wanted: len(feeding.ids()) == wanted, sent))
            assert feeding.ids() == list(range(6000))


@pytest.mark.holds("QUIET")
def test_a_connection_that_is_not_dead_yet_is_no_reason_to_give_up(one: Talker) -> None:
    one.mute = True
    with Feeding(source("first", one, "BTC/USD"), network_deadline_s=0.4) as feeding:
        feeding.leads("first")
        feeding.until(lambda: one.open)
        feeding.rest(1.0)
        assert feeding.ingest.failure is None
        assert feeding.ingest.is_alive()


def test_what_cannot_be_loaded_for_a_connection_is_named(one: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hybrid_engine.ingest.connection", None)  # as a broken installation does
    connecting = ConnectionAttempt(source("first", one, "BTC/USD"), "BTC/USD", lambda: None)
    with pytest.raises(SourceFailed, match=r"hybrid_engine\.ingest\.connection"):
        wait_until(connecting.result, "what became of it")
