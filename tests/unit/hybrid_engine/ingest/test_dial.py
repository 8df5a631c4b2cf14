"""Opening the TCP connection: every address of a name is tried in time, and a proxy is named where it fails."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from hybrid_engine.ingest.dial import NEXT_ADDRESS_S, dial
from hybrid_engine.ingest.failure import SourceFailed


@contextmanager
def swallower() -> Iterator[tuple[str, int]]:
    """An address that answers nothing: the queue of its listener is full, so the kernel drops what asks for more."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            client = stack.enter_context(socket.socket())
            client.settimeout(0.3)
            try:
                client.connect(listener.getsockname())
            except TimeoutError:
                break
        yield listener.getsockname()


@contextmanager
def listening(*answers: bytes) -> Iterator[tuple[str, int]]:
    """A server that answers one request of each connection, if there is an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    for answer in answers:
                        client.recv(4096)
                        client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def refusing() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: tuple[str, int] = listener.getsockname()
    return address


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **names: found)


def test_address_that_swallows_packets_costs_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    with swallower() as first, listening() as second:
        resolve_to(monkeypatch, first, second)
        began = time.monotonic()
        sock = dial("exchange.example", 443, secure=False, timeout_s=8)
        assert NEXT_ADDRESS_S <= time.monotonic() - began < 4
        assert sock.getpeername() == second
        sock.close()


def test_next_address_follows_a_refusal_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as last:
        resolve_to(monkeypatch, *(refusing() for _ in range(40)), last)
        began = time.monotonic()
        sock = dial("exchange.example", 443, secure=False, timeout_s=8)
        assert time.monotonic() - began < 40 * NEXT_ADDRESS_S
        assert sock.getpeername() == last
        sock.close()


def test_time_is_for_all_addresses_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with swallower() as first, swallower() as second:
        resolve_to(monkeypatch, first, second)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="none of 2 addresses answered"):
            dial("exchange.example", 443, secure=False, timeout_s=0.6)
        assert 0.6 <= time.monotonic() - began < 4


def test_refusal_by_every_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, refusing(), refusing())
    with pytest.raises(ConnectionRefusedError):
        dial("exchange.example", 443, secure=False, timeout_s=8)


def test_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    from hybrid_engine.ingest import dial as module

    six = [(socket.AF_INET6, 1, 6, "", (f"2001:db8::{n}", 443, 0, 0)) for n in range(3)]
    four = [(socket.AF_INET, 1, 6, "", (f"192.0.2.{n}", 443)) for n in range(2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **names: [*six, *four])
    families = [one.family for one in module._resolve("exchange.example", 443)]
    assert families == [socket.AF_INET6, socket.AF_INET] * 2 + [socket.AF_INET6]


def test_name_without_address_is_told() -> None:
    with pytest.raises(SourceFailed, match=r"no address of no-such-host\.invalid"):
        dial("no-such-host.invalid", 443, secure=False, timeout_s=8)


@pytest.mark.parametrize("secure", [True, False])
def test_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    with listening(b"HTTP/1.1 407 Who are you\r\n\r\n") as (host, port):
        monkeypatch.setenv("https_proxy" if secure else "http_proxy", f"http://me:secret@{host}:{port}")
        with pytest.raises(SourceFailed, match=rf"^proxy {host}:{port}: .*407") as caught:
            dial("exchange.example", 443, secure=secure, timeout_s=8)
    assert "secret" not in str(caught.value)


def test_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = refusing()
    monkeypatch.setenv("https_proxy", f"http://{host}:{port}")
    with pytest.raises(SourceFailed, match=f"^proxy {host}:{port}: connection refused"):
        dial("exchange.example", 443, secure=True, timeout_s=8)


def test_proxy_carries_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(b"HTTP/1.1 200 OK\r\n\r\n", b"hello") as (host, port):
        monkeypatch.setenv("http_proxy", f"http://{host}:{port}")
        with dial("exchange.example", 80, secure=False, timeout_s=8) as sock:
            sock.sendall(b"hello?")
            assert sock.recv(10) == b"hello"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST.", "a.localhost"])
def test_this_host_needs_no_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("http_proxy", "http://{}:{}".format(*refusing()))
    with listening() as address:
        resolve_to(monkeypatch, address)
        dial(host, 80, secure=False, timeout_s=8).close()


def test_hosts_of_no_proxy_are_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://{}:{}".format(*refusing()))
    monkeypatch.setenv("no_proxy", "elsewhere.example,.example")
    with listening() as address:
        resolve_to(monkeypatch, address)
        dial("exchange.example", 80, secure=False, timeout_s=8).close()
