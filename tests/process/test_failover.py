"""Sources that fail in every way, against a mock exchange in a process of its own."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from proofs.mock_exchange import MockExchange
from tests.support.accounting import check_finished, rows
from tests.support.process import EngineProcess, Launcher, wait_until

EAGER = (
    sys.executable,
    "-c",
    "from hybrid_engine import cli; from hybrid_engine.ingest import retry_policy;"
    " retry_policy.LONGEST_PAUSE_S = 0.2; cli.main()",
)
FAST = {"ingest_mode": "REAL_WS", "dead_after_s": 1.0, "parse_error_limit": 5, "network_deadline_s": 60}


@contextmanager
def two(engine: Launcher, **settings: object) -> Iterator[tuple[EngineProcess, MockExchange, MockExchange]]:
    """An engine that reads from the first of two exchanges."""
    with MockExchange(rate=200, heartbeat=0.3) as first, MockExchange(rate=200, heartbeat=0.3) as second:
        engine.write_sources({"name": "first", "url": first.url()}, {"name": "second", "url": second.url()})
        process = engine.start(engine={**FAST, **settings})
        process.heartbeat(lambda f: f["source"] == "first" and f["ticks_stored"] > 0)
        yield process, first, second


def status_451(exchange: MockExchange) -> None:
    exchange.command("http", status=451, times=-1)
    exchange.command("close")


FAULTS: dict[str, tuple[Callable[[MockExchange], object], str]] = {
    "closed": (lambda exchange: exchange.command("close"), "closed by the exchange"),
    "reset and refused": (lambda x: (x.command("refuse", drop=False), x.command("abort")), ""),
    "HTTP 451": (status_451, "closed by the exchange"),
    "dead silence": (lambda exchange: exchange.command("silent"), "dead: nothing came for 1 s"),
    "stopped": (lambda exchange: exchange.kill(signal.SIGSTOP), "dead: nothing came for 1 s"),
    "killed": (lambda exchange: exchange.kill(signal.SIGKILL), ""),
    "garbage": (lambda exchange: exchange.command("garbage", n=-1), "5 undecodable trade frames in a row"),
}


@pytest.mark.holds("FAILOVER")
@pytest.mark.parametrize("fault", FAULTS)
def test_failover_to_next_source_records_a_gap(engine: Launcher, fault: str) -> None:
    inject, reason = FAULTS[fault]
    with two(engine) as (process, first, _second):
        inject(first)
        failed = process.wait("source failed")
        process.heartbeat(lambda f: f["source"] == "second" and f["source_failures"] == 1)
        assert process.stop() == 0
    assert failed["source"] == "first"
    assert reason in failed["reason"]
    run = check_finished(engine.db)
    names = [name for (name,) in rows(engine.db, "SELECT source FROM ticks GROUP BY source ORDER BY min(id)")]
    assert names == ["first", "second"]
    assert (run["rejected"] > 0) == (fault == "garbage")
    downs = "SELECT source, symbol, count, from_ms, to_ms FROM gaps WHERE kind = 'down' ORDER BY id"
    down = rows(engine.db, downs)
    assert {row[:3] for row in down} == {("first", "BTC/USD", None)}
    # From the last frame of the first source to the first trade of the second one, without a break.
    last, first_ms = rows(
        engine.db,
        "SELECT max(iif(source = 'first', received_ms, 0)), min(iif(source = 'second', received_ms, 9e18)) FROM ticks",
    )[0]
    assert down[0][3] >= last or fault == "garbage"
    assert last <= down[-1][4] <= first_ms
    assert [row[4] for row in down[:-1]] == [row[3] for row in down[1:]]
    assert rows(engine.db, "SELECT DISTINCT symbol FROM ticks") == [("BTC/USD",)]


@pytest.mark.holds("FAILOVER")
def test_one_outage_is_one_gap_that_stays_open_until_it_ends(engine: Launcher) -> None:
    query = "SELECT to_ms IS NULL FROM gaps WHERE kind = 'down'"
    with MockExchange(rate=200) as exchange:
        engine.write_sources({"name": "x", "url": exchange.url()})
        process = engine.start(engine={**FAST, "heartbeat_interval_secs": 0.1, "flush_interval_ms": 20})
        process.heartbeat(lambda f: f["ticks_stored"] > 0)
        exchange.command("refuse")
        process.wait("source failed")
        behind = len(process.messages("HEARTBEAT"))
        wait_until(lambda: len(process.messages("HEARTBEAT")) > behind + 10, "ten heartbeats")
        assert rows(engine.db, query) == [(1,)]
        exchange.command("reopen")
        count = process.heartbeat()["ticks_stored"]
        process.heartbeat(lambda f: f["ticks_stored"] > count + 20)
        assert process.stop() == 0
    assert rows(engine.db, query) == [(0,)]
    check_finished(engine.db)


def test_accounting_equals_what_the_exchange_sent(engine: Launcher) -> None:
    with MockExchange(count=407, rate=0, close_after=207, close_times=1, noise=1, first_id=1001) as exchange:
        engine.write_sources({"name": "x", "url": exchange.url("gemini_v2"), "kind": "gemini_v2"})
        process = engine.start(engine={**FAST, "sample_every": 5, "admit_wait_ms": 1000})
        exchange.wait(sent=407)
        process.heartbeat(lambda f: f["received"] >= 407)
        exchange.command("repeat", n=9)
        process.heartbeat(lambda f: f["duplicate"] >= 9)
        exchange.command("garbage", n=4)
        process.heartbeat(lambda f: f["rejected"] >= 4)
        assert process.stop() == 0
        sent = exchange.stats()
    assert (sent["sent"], sent["repeats"]) == (407, 9)
    run = check_finished(engine.db)
    result = {key: run[key] for key in ("received", "sampled_out", "duplicate", "rejected", "dropped", "admitted")}
    assert result == {
        "received": 407 + 9 + 4,  # history that is sent on subscribing does not count
        "sampled_out": 407 - 81,
        "duplicate": 9,
        "rejected": 4,
        "dropped": 0,
        "admitted": 81,
    }
    # Sampling counts over the run, not per connection: the reconnect after 207 does not shift it.
    assert rows(engine.db, "SELECT exchange_id FROM ticks ORDER BY id") == [(1000 + n,) for n in range(5, 408, 5)]


@pytest.mark.parametrize("kind", ["binance", "binance_agg", "gemini_v1", "gemini_v2"])
def test_mock_ws_detects_every_protocol(engine: Launcher, kind: str) -> None:
    with MockExchange(count=50, rate=0, first_id=501) as exchange:
        url = exchange.url(kind, "btcusd" if kind.startswith("gemini") else "btcusdt")
        process = engine.start("--ws-url", url, "--ingest", "mock_ws", engine={"admit_wait_ms": 1000})
        process.heartbeat(lambda f: f["ticks_stored"] >= 50)
        assert process.stop() == 0
    check_finished(engine.db)
    assert rows(engine.db, "SELECT exchange_id FROM ticks ORDER BY id") == [(500 + n,) for n in range(1, 51)]
    assert rows(engine.db, "SELECT count(DISTINCT symbol), min(price) > 0, min(size) > 0 FROM ticks") == [(1, 1, 1)]


@pytest.mark.holds("S13")
def test_stop_during_a_flood_drains(engine: Launcher) -> None:
    with MockExchange(rate=0) as exchange:
        process = engine.start("--ws-url", exchange.url(), "--ingest", "MOCK_WS", channels={"tick": 64})
        process.heartbeat(lambda f: f["ticks_stored"] > 2000)
        started_at = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started_at < 5
        assert exchange.stats()["sent"] >= check_finished(engine.db)["received"]
    assert process.messages("the drain took too long") == []


@pytest.mark.holds("G5")
def test_garbage_from_every_source_exits_11(engine: Launcher) -> None:
    with MockExchange(rate=200, heartbeat=0.1, noise=2) as exchange:
        exchange.command("garbage", n=-1, scope="all")
        engine.write_sources({"name": "x", "url": exchange.url("gemini_v1"), "kind": "gemini_v1"})
        started_at = time.monotonic()
        # With short pauses: each new connection delivers valid heartbeats long before the deadline.
        process = engine.start(engine={**FAST, "network_deadline_s": 2.0}, command=EAGER)
        assert process.code() == 11
        assert time.monotonic() - started_at >= 2.0
    assert process.last_error()["exit_name"] == "PARSE"
    (run,) = rows(engine.db, "SELECT received, rejected, waiting, exit_code FROM runs")
    assert run[0] == run[1] > 5
    assert run[2:] == (0, 11)


def test_garbage_and_refusal_exit_10(engine: Launcher) -> None:
    with MockExchange(rate=200) as garbage, MockExchange() as refusing:
        garbage.command("garbage", n=-1, scope="all")
        refusing.command("refuse")
        engine.write_sources({"name": "g", "url": garbage.url()}, {"name": "r", "url": refusing.url()})
        assert engine.start(engine={**FAST, "network_deadline_s": 1.0}).code() == 10


def test_source_recovers_from_garbage(engine: Launcher) -> None:
    with MockExchange(rate=200) as exchange:
        exchange.command("garbage", n=-1, scope="all")
        engine.write_sources({"name": "x", "url": exchange.url()})
        process = engine.start(engine={**FAST, "network_deadline_s": 30})
        process.wait("source failed")
        exchange.command("behave")
        process.heartbeat(lambda f: f["ticks_stored"] > 10)
        assert process.stop() == 0
    check_finished(engine.db)


def test_429_respects_retry_after(engine: Launcher) -> None:
    with MockExchange(rate=200) as exchange:
        exchange.command("http", status=429, retry_after=2, times=1)
        engine.write_sources({"name": "x", "url": exchange.url()})
        process = engine.start(engine=FAST)
        process.wait("source failed", lambda f: f["reason"].startswith("answered HTTP 429") and f["hold_s"] == 2)
        limited = time.monotonic()
        process.wait("connected")
        assert time.monotonic() - limited >= 1.9
        assert process.stop() == 0
        assert len(process.messages("connecting")) == 2


def test_accept_and_close_is_not_hammered(engine: Launcher) -> None:
    with MockExchange() as exchange:
        exchange.command("accept_close", times=-1)
        engine.write_sources({"name": "x", "url": exchange.url()})
        process = engine.start(engine={**FAST, "network_deadline_s": 3})
        assert process.code() == 10
    # The pauses are 0 to 0.5, 1, 2, 4 ... seconds: a loop without them makes hundreds of attempts in 3 s.
    assert 2 <= len(process.messages("connecting")) < 25


def test_redirect_and_web_server_fail_the_source(engine: Launcher) -> None:
    answers = [
        b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b"\x00" * 64,
    ]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                peer, _ = server.accept()
                with peer:
                    peer.recv(4096)
                    peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        engine.write_sources({"name": "x", "url": f"ws://127.0.0.1:{server.getsockname()[1]}/ws/btcusdt@trade"})
        process = engine.start(engine=FAST)
        process.wait("source failed", lambda f: len(process.messages("source failed")) >= 3)
        assert process.stop() == 0
    assert process.messages("connected") == []
    assert rows(engine.db, "SELECT received FROM runs") == [(0,)]


def certificates(folder: Path, name: str, host: str = "localhost") -> tuple[Path, Path, Path]:
    """The certificate of a private CA, and a server certificate signed by it with its key."""
    authority = trustme.CA()
    issued = authority.issue_cert(host)
    paths = folder / f"{name}-ca.pem", folder / f"{name}.pem", folder / f"{name}.key"
    authority.cert_pem.write_to_path(str(paths[0]))
    issued.cert_chain_pems[0].write_to_path(str(paths[1]))
    issued.private_key_pem.write_to_path(str(paths[2]))
    return paths


def test_certificates_are_verified_against_ca_file(engine: Launcher) -> None:
    ca, cert, key = certificates(engine.folder, "good")
    _, other_cert, other_key = certificates(engine.folder, "other")
    with MockExchange(rate=200, tls_cert=str(cert), tls_key=str(key)) as exchange:
        url = exchange.url()
        engine.write_sources(
            {"name": "untrusted", "url": url},
            {"name": "wrong-name", "url": url.replace("localhost", "127.0.0.1"), "ca_file": str(ca)},
            {"name": "good", "url": url, "ca_file": str(ca)},
        )
        process = engine.start(engine=FAST)
        process.heartbeat(lambda f: f["source"] == "good" and f["ticks_stored"] > 0)
        failed = {f["source"]: f["reason"] for f in process.messages("source failed")}
        assert sorted(failed) == ["untrusted", "wrong-name"]
        assert "bad certificate" in failed["untrusted"]
        assert "bad certificate" in failed["wrong-name"]
        # The exchange returns with a certificate that is not trusted: a failed source, too.
        exchange.command("tls", cert=str(other_cert), key=str(other_key))
        exchange.command("close")
        process.wait("source failed", lambda f: f["source"] == "good" and "bad certificate" in f["reason"])
        assert process.stop() == 0
    check_finished(engine.db)


@pytest.mark.holds("QUIET")
def test_quiet_market_is_no_fault(engine: Launcher) -> None:
    with MockExchange(rate=200, heartbeat=60, ping=0, noise=0) as exchange:
        engine.write_sources({"name": "x", "url": exchange.url()})
        process = engine.start(engine={**FAST, "dead_after_s": 0.9, "network_deadline_s": 1})
        process.heartbeat(lambda f: f["ticks_stored"] > 10)
        exchange.command("pause")
        quiet = process.heartbeat()
        # Only pongs arrive, for longer than three times dead_after_s and than network_deadline_s.
        process.heartbeat(lambda f: f["last_frame_ms"] > quiet["last_frame_ms"] + 2700)
        assert process.messages("source failed") == []
        exchange.command("resume")
        process.heartbeat(lambda f: f["ticks_stored"] > quiet["ticks_stored"] + 10)
        assert process.stop() == 0
    assert rows(engine.db, "SELECT id FROM gaps WHERE kind = 'down'") == []


# Shows whether the process ran the libraries' cleanup when it ended.
CLEANING = (
    sys.executable,
    "-c",
    "import atexit, pathlib, sys; from hybrid_engine import cli;"
    " atexit.register(pathlib.Path(sys.argv[sys.argv.index('--db') + 1] + '.cleaned').touch); cli.main()",
)


@pytest.mark.parametrize("connecting", [True, False])
def test_stop_while_connecting_skips_interpreter_cleanup(engine: Launcher, connecting: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"ws://127.0.0.1:{server.getsockname()[1]}/ws/btcusdt@trade"
        engine.write_sources({"name": "silent", "url": url})
        db = engine.folder / "x.db"
        mode = "REAL_WS" if connecting else "SYNTHETIC"
        process = engine.start("--db", str(db), engine={**FAST, "ingest_mode": mode}, command=CLEANING)
        process.ready()
        if connecting:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(4) == b"GET "  # and no answer is sent
                assert process.stop() == 0
        else:
            assert process.stop() == 0
    assert Path(f"{db}.cleaned").exists() is not connecting
