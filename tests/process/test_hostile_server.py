"""A server that violates the protocol: each violation is one failed source, and the engine goes on."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

from tests.support.accounting import check_finished, rows
from tests.support.notify import Manager
from tests.support.process import Launcher
from tests.support.scripted_exchange import accept, frame


def trade(number: int) -> bytes:
    return b'{"e":"trade","s":"BTCUSDT","t":%d,"p":"10.5","q":"1","T":1700000000000}' % number


def drip(peer: socket.socket) -> None:
    """A frame that arrives one byte at a time and is never complete: TCP is alive, but no message arrives."""
    whole = frame(1, trade(1) * 100)
    try:
        for byte in whole:
            peer.sendall(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        pass  # the engine has closed the connection


def sends(*parts: bytes) -> Callable[[socket.socket], None]:
    return lambda peer: peer.sendall(b"".join(parts))


HOSTILE: dict[str, Callable[[socket.socket], None]] = {
    "a frame of 2^62 bytes": sends(frame(1, b"", length=2**62)),
    "a length that is negative": sends(b"\x81\x7f" + b"\xff" * 8),
    "an opcode nobody knows": sends(frame(3, b"x")),
    "a reserved bit": sends(frame(1, b"x", rsv=4)),
    "a continuation of nothing": sends(frame(0, b"x")),
    "a second beginning": sends(frame(1, b"x", fin=False), frame(1, b"y")),
    "a ping in pieces": sends(frame(9, b"x", fin=False)),
    "a ping of 200 bytes": sends(frame(9, b"x" * 200)),
    "a close of one byte": sends(frame(8, b"x")),
    "a close with a code that is none": sends(frame(8, struct.pack(">H", 5) + b"\xff")),
    "half a frame and no more": sends(frame(1, trade(1))[:20]),
    "fragments beyond every limit": sends(*(frame(0 if n else 1, b"x" * 2**20, fin=False) for n in range(9))),
    "drops of a frame": drip,
}


@pytest.mark.holds("BYTES")
def test_hostile_server_fails_its_source_only(engine: Launcher) -> None:
    behaviours = list(HOSTILE.values())
    served: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for behave in behaviours:
                peer, _ = server.accept()
                with peer:
                    accept(peer)
                    served.append(1)
                    try:
                        behave(peer)
                        peer.settimeout(3)
                        while peer.recv(4096):
                            pass
                    except OSError:
                        pass
            peer, _ = server.accept()
            accept(peer)
            # Fragments, pings between them, binary instead of text: all of that is allowed.
            first = trade(1)
            peer.sendall(frame(1, first[:9], fin=False) + frame(9, b"there?") + frame(0, first[9:20], fin=False))
            peer.sendall(frame(0, first[20:]) + frame(2, trade(2)) + frame(10, b"") + frame(1, b"[]") + frame(1, b""))
            peer.sendall(b"".join(frame(9, b"p") for _ in range(500)) + frame(1, trade(3)))
            peer.settimeout(30)
            with peer:
                try:
                    while peer.recv(4096):
                        pass
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        url = f"ws://127.0.0.1:{port}/ws/btcusdt@trade"
        # Several sources at the one server, so that the pauses between attempts do not make the test long.
        engine.write_sources(*({"name": f"s{n}", "url": url} for n in range(len(behaviours) + 1)))
        settings = {"ingest_mode": "REAL_WS", "dead_after_s": 1.6, "network_deadline_s": 60}
        with Manager(engine.folder / "notify") as manager:
            process = engine.start(engine=settings, env=manager.env)
            process.heartbeat(lambda f: f["ticks_stored"] >= 3)
            failed = process.messages("source failed")
            assert process.stop() == 0
            # The stage that reads it shows signs of life all the time.
            assert manager.times("stuck") == []
    assert len(served) == len(behaviours)
    assert len(failed) == len(behaviours)
    reasons = dict(zip(HOSTILE, (f["reason"] for f in failed), strict=True))
    assert "the limit is" in reasons["a frame of 2^62 bytes"]
    assert "fragments beyond" in reasons["fragments beyond every limit"]
    assert "dead: nothing came" in reasons["drops of a frame"]
    run = check_finished(engine.db)
    assert rows(engine.db, "SELECT exchange_id FROM ticks ORDER BY id") == [(1,), (2,), (3,)]
    assert (run["received"], run["rejected"]) == (4, 1)  # the empty message, which is not JSON
    assert "Traceback" not in engine.stderr()
