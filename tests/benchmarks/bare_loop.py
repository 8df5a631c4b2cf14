"""The simplest possible peer: `bare_loop.py URL DATABASE COUNT`. Do not change it: every figure is relative to it.

One thread. websocket-client's plain `recv_data`, typed JSON decode, `executemany` in batches of 500. No stages, no
signals, no duplicates, no counters, no foreign keys. (UTF-8 is validated by decoding it, as fast as Python can; the
library's own validator, in pure Python, would take several times as long as everything else together.)
"""

import json
import sqlite3
import sys
import time
from typing import NamedTuple

import websocket

BATCH = 500
TABLE = (
    "CREATE TABLE ticks (id INTEGER PRIMARY KEY, source TEXT NOT NULL, symbol TEXT NOT NULL, price REAL NOT NULL,"
    " size REAL NOT NULL, exchange_id INTEGER, exchange_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL) STRICT"
)
INSERT = "INSERT INTO ticks VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class Tick(NamedTuple):
    id: int
    source: str
    symbol: str
    price: float
    size: float
    exchange_id: int
    exchange_ms: int
    received_ms: int


def main() -> None:
    url, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    con = sqlite3.connect(path)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute("PRAGMA synchronous = NORMAL")
    con.execute(TABLE)
    con.commit()
    ws = websocket.create_connection(url, skip_utf8_validation=True)
    rows: list[Tick] = []
    for number in range(1, count + 1):
        _, payload = ws.recv_data()
        frame = json.loads(payload)["data"]
        rows.append(
            Tick(
                number,
                "mock",
                frame["s"],
                float(frame["p"]),
                float(frame["q"]),
                int(frame["a"]),
                int(frame["T"]),
                time.time_ns() // 1_000_000,
            )
        )
        if len(rows) >= BATCH or number == count:
            con.executemany(INSERT, rows)
            con.commit()
            rows.clear()
    ws.close()
    con.close()


if __name__ == "__main__":
    main()
