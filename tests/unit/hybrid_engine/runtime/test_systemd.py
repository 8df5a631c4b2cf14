"""Notifications to systemd: the messages, the watchdog interval, and a missing or foreign socket."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybrid_engine.runtime.systemd import Notifier
from tests.support.notify import Manager


@pytest.mark.parametrize("abstract", [False, True])
def test_notify_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"@hybrid-unit-{os.getpid()}-{tmp_path.name}" if abstract else str(tmp_path / "socket")
    with Manager(address) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        notifier = Notifier()
        notifier.ready("running")
        notifier.watchdog()
        notifier.status("well")
        notifier.reloading()
        notifier.stopping()
        manager.wait("STOPPING=1")
        message = [text for _, text in manager.messages]
    usec = message[3].partition("MONOTONIC_USEC=")[2]
    assert usec.isdigit()
    assert message == [
        "READY=1\nSTATUS=running",
        "WATCHDOG=1",
        "STATUS=well",
        f"RELOADING=1\nMONOTONIC_USEC={usec}",
        "STOPPING=1",
    ]


def test_notifier_without_socket_does_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for address in ("", str(tmp_path / "nobody"), str(tmp_path / ("x" * 200))):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notifier = Notifier()
        notifier.ready("running")
        notifier.watchdog()
        notifier.stopping()


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("10000000", "", 10.0),
        ("10000000", "SELF", 10.0),
        ("10000000", "1", None),
        ("0", "", None),
        ("", "", None),
        ("x", "", None),
    ],
)
def test_watchdog_time_read_for_own_pid(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "SELF" else pid)
    assert Notifier().watchdog_s == seconds
