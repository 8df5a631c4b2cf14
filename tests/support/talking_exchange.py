"""An exchange that is a function of the test: it hears the requests of one connection and answers them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

NUMBERS = count(1)  # of trades
HELLO = {"channel": "status", "type": "update", "data": [{"system": "online", "api_version": "v2"}]}


@dataclass
class Exchange:
    """requests: those of each connection."""

    port: int = 0
    requests: list[list[Any]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"


Talk = Callable[["Line"], None]


@dataclass
class Line:
    """One connection of the engine."""

    connection: ServerConnection
    heard: list[Any]

    def hear(self) -> Any:
        request = json.loads(self.connection.recv())
        self.heard.append(request)
        return request

    def say(self, *frames: object) -> None:
        for frame in frames:
            self.connection.send(json.dumps(frame))

    def trade_on(self, *symbols: str) -> None:
        """Kraken's trades of these symbols, 50 a second, until the connection ends."""
        while True:
            self.say(*map(kraken_trade, symbols))
            time.sleep(0.02)  # the pace of the exchange


@contextmanager
def exchange(talk: Talk) -> Iterator[Exchange]:
    one = Exchange()

    def handle(connection: ServerConnection) -> None:
        heard: list[Any] = []
        one.requests.append(heard)
        with suppress(ConnectionClosed):
            talk(Line(connection, heard))
            for _ in connection:  # says nothing more, but answers pings
                pass

    with serve(handle, "127.0.0.1", 0) as server:
        one.port = server.socket.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield one
        server.shutdown()
        thread.join()


def kraken_trade(symbol: str) -> dict[str, Any]:
    trade = {"symbol": symbol, "side": "buy", "price": 60000.1, "qty": 0.01, "ord_type": "limit"}
    data = {**trade, "trade_id": next(NUMBERS), "timestamp": "2026-01-09T16:38:00.100000Z"}
    return {"channel": "trade", "type": "update", "data": [data]}


def kraken_yes(symbol: str) -> dict[str, Any]:
    result = {"channel": "trade", "symbol": symbol, "snapshot": True}
    return {"method": "subscribe", "success": True, "result": result}


def kraken_no(symbol: str) -> dict[str, Any]:
    error = f"Currency pair not supported {symbol}"
    return {"method": "subscribe", "success": False, "error": error, "symbol": symbol}
