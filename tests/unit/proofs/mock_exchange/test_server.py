"""The exchange as a server: unknown paths, TLS, and exact counts under random faults."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
import websocket

from proofs.mock_exchange import ControlError, MockExchange
from tests.support.exchange_client import Client


def test_unknown_path_is_404() -> None:
    with MockExchange() as exchange:
        for path in ("/", "/ws/", "/ws/btcusdt", "/v1/marketdata/", "/v3/marketdata", "/stream"):
            with pytest.raises(Exception, match="404"):
                Client(f"ws://127.0.0.1:{exchange.port}{path}")
        stats = exchange.stats()
        assert (stats["rejected_by_status"], stats["requests"], stats["accepted"]) == ({"404": 6}, 6, 0)


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    """A CA, a certificate of its for localhost, and one of a CA nobody knows."""
    paths: dict[str, str] = {}
    for name in ("good", "bad"):
        ca = trustme.CA()
        leaf = ca.issue_cert("localhost")
        paths |= {f"{name}_{part}": str(tmp_path / f"{name}-{part}.pem") for part in ("ca", "cert", "key")}
        ca.cert_pem.write_to_path(paths[f"{name}_ca"])
        leaf.private_key_pem.write_to_path(paths[f"{name}_key"])
        leaf.cert_chain_pems[0].write_to_path(paths[f"{name}_cert"])
    return paths


def test_tls_certificate_is_replaced_by_command(certificates: dict[str, str]) -> None:
    ca = certificates["good_ca"]
    settings = {"tls_cert": certificates["good_cert"], "tls_key": certificates["good_key"]}
    with MockExchange(count=500, rate=0, close_after=300, **settings) as exchange:
        for kind, ids in (("binance", [*range(1, 301)]), ("gemini_v2", [*range(301, 501)])):
            with Client(exchange.url(kind), ca=ca) as client:
                client.read_until(lambda c: c.ids[-1:] in ([300], [500]))
                assert client.ids == ids
        with pytest.raises(ControlError, match="cannot load"):
            exchange.command("tls", cert="a\0b", key=certificates["bad_key"])
        exchange.command("tls", cert=certificates["bad_cert"], key=certificates["bad_key"])
        accepted = exchange.stats()["accepted"]
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            Client(exchange.url(), ca=ca)
        stats = exchange.stats()
        assert (stats["accepted"], stats["tls_hellos"]) == (accepted, accepted + 1)
        exchange.command("tls", cert=certificates["good_cert"], key=certificates["good_key"])
        Client(exchange.url(), ca=ca).close()


def test_tls_loses_nothing_to_a_slow_client(certificates: dict[str, str]) -> None:
    settings = {"tls_cert": certificates["good_cert"], "tls_key": certificates["good_key"]}
    with MockExchange(count=5000, rate=0, close_after=2500, **settings) as exchange:
        ids: list[int] = []
        for _ in range(2):
            with Client(exchange.url("gemini_v1"), ca=certificates["good_ca"]) as client:
                ids += client.read_until(lambda c: len(c.ids) == 2500, timeout=60.0).ids  # slow on a busy machine too
    assert ids == list(range(1, 5001))


TRADES = 3000


class Returning(threading.Thread):
    """A client that reconnects until it has all trades, or the time is up."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.ids: list[int] = []
        self.connections = 0

    def run(self) -> None:
        deadline = time.monotonic() + 40
        while len(self.ids) < TRADES and time.monotonic() < deadline:
            with suppress(websocket.WebSocketException, OSError), Client(self._url, timeout=5) as client:
                self.connections += 1
                client.read_until(self._has_all)
                self.ids += news(client.ids)

    def _has_all(self, client: Client) -> bool:
        return len(self.ids) + len(news(client.ids)) >= TRADES


def news(ids: list[int]) -> list[int]:
    """Without the ids of garbage."""
    return [one for one in ids if one < 9_000_000_000]


@pytest.mark.parametrize(("seed", "kind"), [(1, "binance"), (2, "gemini_v1"), (3, "gemini_v2")])
def test_random_faults_lose_and_repeat_nothing(seed: int, kind: str) -> None:
    rng = random.Random(seed)
    with MockExchange(count=TRADES, rate=1500, heartbeat=0.05, trades_per_frame=3) as exchange:
        client = Returning(exchange.url(kind, "btcusd"))
        client.start()
        try:
            sent = -1
            while not (stats := exchange.stats(brief=True))["complete"]:
                if stats["sent"] == sent and stats["listening"]:
                    continue
                sent = stats["sent"]
                match rng.randrange(8):
                    case 0 | 1:
                        exchange.command("close", code=rng.choice([1000, 1001, 1012]))
                    case 2:
                        exchange.command("refuse")
                        exchange.command("reopen")
                    case 3:
                        exchange.command("http", status=429)
                        exchange.command("close")
                    case 4:
                        exchange.command("accept_close", times=2)
                    case 5:
                        exchange.command("garbage", n=7)
                    case 6:
                        exchange.command("silent", what=rng.choice(["all", "trades"]))
                        exchange.command("behave")
                    case 7:
                        exchange.command("pause")
                        exchange.command("burst", n=11)
                        exchange.command("resume")
                assert client.is_alive() or exchange.stats()["complete"], "the client gave up"
            client.join(20)
        finally:
            exchange.command("behave")
            client.join(20)
        stats = exchange.stats()
    assert client.ids == list(range(1, TRADES + 1))
    assert (stats["sent"], stats["in_flight"], stats["lost"], stats["repeats"]) == (TRADES, 0, 0, 0)
    assert sum(one["sent"] for one in stats["connections"]) == TRADES
    assert sum(stats["sent_by_symbol"].values()) == TRADES
    assert client.connections > 5
