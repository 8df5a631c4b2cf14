"""A WebSocket server that sends faster than clients read: `python -m tests.benchmarks.sender COUNT CONNECTIONS RATE`.

It only calls `sendall` with frames built beforehand, on blocking sockets: a slow reader delays it through TCP, and
nothing is ever dropped. RATE is in frames a second over all connections, 0 for as fast as they are read; with a rate
each frame contains the time when it was sent.

Its output is JSON lines: {"port"}, then {"connected"} when all CONNECTIONS are open. A line on stdin starts the
sending. Then it prints {"first_ns", "last_ns", "sent"} (CLOCK_MONOTONIC) and keeps the connections open until stdin is
closed. It also answers the HTTP requests that cryptofeed sends before it connects.
"""

import base64
import hashlib
import json
import socket
import sys
import threading
import time
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from tests.benchmarks.frames import SYMBOL, flood, frame

MAX_BATCH = 64  # frames sent together, with the time of the first of them
CATCH_UP = 1.5  # times the rate, at most, after the sender was delayed: a burst would not be a steady rate

_EXCHANGE_INFO = {
    "symbols": [
        {
            "symbol": SYMBOL,
            "status": "TRADING",
            "baseAsset": "ETH",
            "quoteAsset": "USDT",
            "filters": [{"tickSize": "1"}],
        }
    ]
}


def print_line(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def accept(server: socket.socket) -> tuple[socket.socket, str]:
    """The next WebSocket connection, and the symbol it asks for. HTTP requests on the way are answered."""
    while True:
        client, _ = server.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b""
        while b"\r\n\r\n" not in request:
            request += client.recv(65536)
        first, *lines = request.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "sec-websocket-key" not in headers:
            body = json.dumps(_EXCHANGE_INFO).encode()
            client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            client.close()
            continue
        salted = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accepted = base64.b64encode(hashlib.sha1(salted.encode()).digest())
        client.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accepted
        )
        stream = parse_qs(urlsplit(first.split()[1]).query)["streams"][0]
        return client, stream.partition("@")[0].upper()


class Client:
    """One connection. Pings are answered between two sends, so that no client closes it."""

    def __init__(self, client: socket.socket, symbol: str, count: int, first: int) -> None:
        self.client, self.symbol, self.count, self.first = client, symbol, count, first
        self.lock = threading.Lock()
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        with suppress(OSError):  # the client may end at any time
            self._answer_pings()

    def _answer_pings(self) -> None:
        while head := self.client.recv(2, socket.MSG_WAITALL):
            rest = self.client.recv(4 + (head[1] & 0x7F), socket.MSG_WAITALL)  # masked and short
            if head[0] & 0x0F == 9:
                payload = bytes(byte ^ rest[i % 4] for i, byte in enumerate(rest[4:]))
                with self.lock:
                    self.client.sendall(bytes((0x8A, len(payload))) + payload)

    def send(self, piece: bytes | bytearray) -> None:
        with self.lock:
            self.client.sendall(piece)


def send_flood(lines: list[Client], prepared: list[list[bytes]]) -> tuple[int, int]:
    """Send everything, each connection in its own thread. Returns the times of the first and the last send."""

    def send(line: Client, pieces: list[bytes]) -> None:
        for piece in pieces:
            line.send(piece)

    threads = [threading.Thread(target=send, args=(line, pieces)) for line, pieces in zip(lines, prepared, strict=True)]
    first = time.monotonic_ns()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return first, time.monotonic_ns()


def send_paced(lines: list[Client], count: int, rate: float) -> tuple[int, int]:
    """Send at a rate: frame k is due k / rate after the first; all frames that are due are sent together.

    Sent one by one, 110,000 frames a second used a whole CPU, which the kernel's disk threads needed.
    """
    first = last = now = time.monotonic_ns()
    interval = 1e9 / rate
    count_sent = before = 0
    while count_sent < count:
        due = max(first + int(count_sent * interval), now + int((count_sent - before) * interval / CATCH_UP))
        while (now := time.monotonic_ns()) < due:
            time.sleep((due - now) / 1e9)
        before = count_sent
        pieces = {line: bytearray() for line in lines}
        time_ms = time.time_ns() // 1_000_000
        for number in range(count_sent + 1, min(count, count_sent + MAX_BATCH, 1 + int((now - first) / interval)) + 1):
            last = max(now, last + 1)  # ids never repeat
            line = lines[number % len(lines)]
            pieces[line] += frame(number, last, time_ms, line.symbol)
            count_sent = number
        for line, piece in pieces.items():
            line.send(piece)
    return first, last


def main() -> None:
    count, connections, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    sys.setswitchinterval(0.0005)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        now_ms = time.time_ns() // 1_000_000
        print_line(port=server.getsockname()[1])
        share = count // connections
        lines = []
        for _ in range(connections):
            client, symbol = accept(server)
            lines.append(Client(client, symbol, share, 1))
        prepared = [] if rate else [flood(share, now_ms, line.symbol) for line in lines]
        print_line(connected=len(lines))
        sys.stdin.readline()
        first, last = send_paced(lines, share * connections, rate) if rate else send_flood(lines, prepared)
        print_line(first_ns=first, last_ns=last, sent=share * connections)
        sys.stdin.readline()


if __name__ == "__main__":
    main()
