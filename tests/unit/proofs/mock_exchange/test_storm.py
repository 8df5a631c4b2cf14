"""Whatever happens between them, what a client that always comes back received is what the exchange says it sent."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress

import pytest
import websocket

from proofs.mock_exchange import MockExchange
from tests.support.exchange_client import Client

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
def test_received_is_what_was_sent_in_any_weather(seed: int, kind: str) -> None:
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
