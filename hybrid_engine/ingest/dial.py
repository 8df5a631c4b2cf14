"""Opens the TCP connection to an exchange, by whichever address of its name answers first (RFC 8305), or by a proxy.

An address that swallows packets costs 250 ms, not the whole time to connect. The proxy is the environment's
(https_proxy, http_proxy, but for the hosts of no_proxy), and none for this host itself.
"""

import errno
import ipaddress
import os
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from typing import NamedTuple

from websocket._http import _tunnel
from websocket._socket import DEFAULT_SOCKET_OPTION
from websocket._url import get_proxy_info

from hybrid_engine.ingest.failure import SourceFailed, failure_of

NEXT_ADDRESS_S = 0.25  # RFC 8305, "Connection Attempt Delay"


class Address(NamedTuple):
    family: int
    address: tuple[str | bytes | int, ...]


def dial(host: str, port: int, secure: bool, timeout_s: float) -> socket.socket:
    """A connected socket with what is left of the time as its time-out. Raises SourceFailed and OSError."""
    deadline = time.monotonic() + timeout_s
    proxy_host, proxy_port, login = (None, 0, None) if _is_loopback(host) else get_proxy_info(host, secure)
    if not proxy_host:
        return _connect(_resolve(host, port), deadline)
    try:
        sock = _connect(_resolve(proxy_host, proxy_port or 80), deadline)
        try:
            _tunnel(sock, f"[{host}]" if ":" in host else host, port, login)
        except BaseException:
            sock.close()
            raise
    except Exception as error:
        failure = failure_of(error)
        raise SourceFailed(f"proxy {proxy_host}:{proxy_port or 80}: {failure}", failure.hold_s) from error
    return sock


def _is_loopback(host: str) -> bool:
    if host.rstrip(".").lower() == "localhost" or host.rstrip(".").lower().endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _resolve(host: str, port: int) -> list[Address]:
    """The addresses of a name, those of both families in turn, beginning with the one that the resolver prefers."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise SourceFailed(f"no address of {host}: {error}") from error
    addresses = list(dict.fromkeys(Address(family, address) for family, _, _, _, address in found))
    first = [one for one in addresses if one.family == addresses[0].family]
    others = [one for one in addresses if one.family != addresses[0].family]
    return [one for one in chain.from_iterable(zip_longest(first, others)) if one is not None]


def _connect(addresses: Sequence[Address], deadline: float) -> socket.socket:
    """The first that connects. The next one is tried when one fails, and NEXT_ADDRESS_S after the one before it."""
    waiting, poll = deque(addresses), select.poll()
    connecting: dict[int, socket.socket] = {}
    next_at, failure = 0.0, OSError("no address")
    try:
        while waiting or connecting:
            now = time.monotonic()
            if now >= deadline:
                raise TimeoutError(f"none of {len(addresses)} addresses answered in time")
            if waiting and (now >= next_at or not connecting):
                try:
                    sock = _begin(*waiting.popleft())
                except OSError as error:
                    failure = error
                    continue
                connecting[sock.fileno()] = sock
                poll.register(sock, select.POLLOUT)
                next_at = now + NEXT_ADDRESS_S
            wait_s = (min(deadline, next_at) if waiting else deadline) - now
            for fd, _ in poll.poll(max(0.0, wait_s) * 1000):
                poll.unregister(fd)
                sock = connecting.pop(fd)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    sock.settimeout(max(0.1, deadline - time.monotonic()))
                    return sock
                sock.close()
                next_at, failure = 0.0, OSError(code, os.strerror(code))
    finally:
        for sock in connecting.values():
            sock.close()
    raise failure


def _begin(family: int, address: tuple[str | bytes | int, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        for option in DEFAULT_SOCKET_OPTION:
            sock.setsockopt(*option)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock
