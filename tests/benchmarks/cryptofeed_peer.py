"""cryptofeed with a callback that stores the same rows: `cryptofeed_peer.py URL DATABASE COUNT [SECONDS]`.

A transaction has BATCH rows, or with SECONDS those of so many seconds; it ends once it stored COUNT rows.

Runs in a virtual environment of its own. To connect to a server on loopback it sets the addresses, and ws instead of
wss through a hook of cryptofeed, so nothing is patched.
"""

import asyncio
import sqlite3
import sys
import time
from typing import Any

from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
from cryptofeed.defines import TRADES
from cryptofeed.exchanges import Binance

BATCH = 500
TABLE = (
    "CREATE TABLE ticks (id INTEGER PRIMARY KEY, source TEXT NOT NULL, symbol TEXT NOT NULL, price REAL NOT NULL,"
    " size REAL NOT NULL, exchange_id INTEGER, exchange_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL) STRICT"
)
INSERT = "INSERT INTO ticks VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class Loopback(Binance):  # type: ignore[misc]
    async def _ws_authentication(self, address: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return address.replace("wss://", "ws://", 1), options


def main() -> None:
    base, path, count = sys.argv[1].split("/stream")[0], sys.argv[2], int(sys.argv[3])
    Loopback.websocket_endpoints = [WebsocketEndpoint(base.replace("ws://", "wss://"), authentication=True)]
    Loopback.rest_endpoints = [RestEndpoint(base.replace("ws://", "http://"), routes=Routes("/api/v3/exchangeInfo"))]
    con = sqlite3.connect(path)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute("PRAGMA synchronous = NORMAL")
    con.execute(TABLE)
    con.commit()
    rows: list[tuple[int, str, str, float, float, int, int, int]] = []
    number = 0
    every_s = float(sys.argv[4]) if len(sys.argv) > 4 else float("inf")
    last_commit = time.monotonic()

    async def store(trade: Any, received: float) -> None:
        nonlocal number, last_commit
        number += 1
        rows.append(
            (
                number,
                "mock",
                trade.symbol,
                float(trade.price),
                float(trade.amount),
                int(trade.id),
                int(trade.timestamp * 1000),
                int(received * 1000),
            )
        )
        if len(rows) >= BATCH or number == count or time.monotonic() - last_commit >= every_s:
            last_commit = time.monotonic()
            con.executemany(INSERT, rows)
            con.commit()
            rows.clear()
            if number == count:
                raise SystemExit

    handler = FeedHandler(config={"log": {"disabled": True}, "uvloop": True})
    asyncio.set_event_loop(asyncio.new_event_loop())  # its run() takes the current one, and uvloop makes none by itself
    handler.add_feed(Loopback(symbols=["ETH-USDT"], channels=[TRADES], callbacks={TRADES: store}))
    handler.run()
    con.close()


if __name__ == "__main__":
    main()
