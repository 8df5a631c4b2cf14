"""READY, STATUS, WATCHDOG, RELOADING and STOPPING, and what stops the watchdog's pings."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.process.test_exit_codes import free_port
from tests.support.notify import Manager
from tests.support.process import HASTY, Launcher, wait_until, write_slow_strategy


@pytest.mark.holds("S1")
def test_ready_after_store_verification_and_stopping_before_exit(engine: Launcher) -> None:
    with Manager(engine.folder / "notify") as manager:
        process = engine.start(env=manager.env)
        process.ready()
        ready = manager.wait("READY=1")
        first_ping = manager.wait("WATCHDOG=1")
        status = manager.wait("STATUS=SHADOW synthetic: ")
        started_at = time.monotonic()
        assert process.stop() == 0
        stopping = manager.wait("STOPPING=1")
    message = [line["fields"]["message"] for line in process.lines]
    assert message.index("store verified") < message.index("ready")
    assert ready < first_ping
    assert ready < status
    assert started_at < stopping
    verified = process.messages("store verified")[0]
    result = {key: verified[key] for key in ("journal_mode", "synchronous", "busy_timeout", "temp_store")}
    assert result == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 5000, "temp_store": 2}


@pytest.mark.holds("S1", "G3")
def test_engine_without_its_store_is_never_ready(engine: Launcher) -> None:
    engine.db.write_bytes(b"this is no database" * 100)
    with Manager(engine.folder / "notify") as manager:
        process = engine.start(engine={"storage_deadline_s": 1.0}, env=manager.env)
        assert process.code() == 14
        manager.close()  # takes what is left in the socket
    assert manager.times("READY=1") == []


def test_stages_share_one_cpu(engine: Launcher) -> None:
    process = engine.start()
    process.ready()
    main = process.popen.pid

    everywhere = os.sched_getaffinity(0)

    def gathered() -> bool:
        others = [int(task.name) for task in Path(f"/proc/{main}/task").iterdir() if task.name != str(main)]
        result = [(os.sched_getaffinity(number), os.sched_getscheduler(number)) for number in others]
        *stages, checkpointer = sorted(result, key=lambda of_thread: len(of_thread[0]))
        together = len(stages) == 4 and len(stages[0][0]) == 1 and all(cpus == stages[0][0] for cpus, _ in stages)
        # Ingest is woken by the network.
        policies = sorted(policy for _, policy in stages) == [os.SCHED_OTHER, *[os.SCHED_BATCH] * 3]
        return together and policies and checkpointer == (everywhere, os.SCHED_OTHER)

    wait_until(gathered, "four stages on one CPU, three of them as batch")
    assert (os.sched_getaffinity(main), os.sched_getscheduler(main)) == (everywhere, os.SCHED_OTHER)
    assert process.stop() == 0


def test_ready_and_pings_wait_for_no_source(engine: Launcher) -> None:
    with Manager("@hybrid-test-" + engine.folder.name + str(os.getpid())) as manager:
        url = f"ws://127.0.0.1:{free_port()}/ws/btcusdt@trade"
        process = engine.start(
            engine={"ingest_mode": "MOCK_WS", "ws_url": url, "network_deadline_s": 60}, env=manager.env
        )
        manager.wait("READY=1")
        process.wait("source failed")
        first = manager.wait("WATCHDOG=1")
        manager.wait("WATCHDOG=1", after=first)
        manager.wait("STATUS=SHADOW no source")
        assert process.stop() == 0


def test_pings_continue_during_slow_connects(engine: Launcher) -> None:
    """A connection that hangs does not make a stage stuck: the exchange accepts and never answers."""
    with Manager(engine.folder / "notify") as manager, socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/ws/btcusdt@trade"
        process = engine.start(
            engine={"ingest_mode": "MOCK_WS", "ws_url": url, "network_deadline_s": 60}, env=manager.env
        )
        connecting = manager.wait("READY=1")
        pings = [manager.wait("WATCHDOG=1", after=connecting + n) for n in (0.5, 1.5)]
        assert max(b - a for a, b in pairwise(pings)) < 2
        assert "stuck" not in " ".join(text for _, text in manager.messages)
        started_at = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started_at < 3  # a stop does not wait for the connection


WEDGE = """
import threading, time

class Wedge:
    def on_tick(self, tick):
        if tick.id == 20:
            wedged_here()

def wedged_here():
    threading.Event().wait()

def make(settings):
    return Wedge()
"""


@pytest.mark.holds("WATCHDOG")
def test_stuck_stage_stops_pings_but_not_heartbeats(engine: Launcher) -> None:
    (engine.folder / "wedge.py").write_text(WEDGE)
    with Manager(engine.folder / "notify") as manager:
        # The tick buffer overflows. That is not an overload (13): the watchdog has to end it, with the stacks.
        process = engine.start(
            engine={"strategy": "wedge:make", "overload_after_s": 2, "admit_wait_ms": 1, "tick_interval_ms": 1},
            channels={"tick": 4},
            env={**manager.env, "WATCHDOG_USEC": "10000000"},
        )
        process.ready()
        stuck = manager.wait("STATUS=stuck: strategy")
        last_ping = max(manager.times("WATCHDOG=1"))
        # Everything else works: heartbeats are logged, trades are received and dropped at admission.
        heartbeat = process.heartbeat()
        process.heartbeat(lambda f: f["received"] > heartbeat["received"] + 300 and f["dropped"] > 0)
        manager.wait("STATUS=stuck: strategy", after=stuck + 2.5)
        assert max(manager.times("WATCHDOG=1")) == last_ping
        assert "persist" not in " ".join(text for _, text in manager.messages if "stuck" in text)
        assert "ingest" not in " ".join(text for _, text in manager.messages if "stuck" in text)
        # What systemd's watchdog does then.
        assert process.stop(signal.SIGABRT) == -signal.SIGABRT
    stacks = engine.stderr()
    assert "Fatal Python error: Aborted" in stacks
    assert "wedged_here" in stacks  # the function that hangs
    for place in ("engine.py", "synthetic.py", "persist.py", "strategy.py", "channel.py"):
        assert place in stacks, place
    assert stacks.count("Thread 0x") >= 4  # every stage and the main thread


@pytest.mark.holds("WATCHDOG")
def test_slow_strategy_is_not_stuck(engine: Launcher) -> None:
    write_slow_strategy(engine.folder, 0.3)
    with Manager(engine.folder / "notify") as manager:
        process = engine.start(
            engine={"strategy": "slow:make", "admit_wait_ms": 0}, channels={"tick": 4}, env=manager.env
        )
        process.heartbeat(lambda f: f["dropped"] > 100)
        at = manager.wait("WATCHDOG=1", after=time.monotonic())
        manager.wait("WATCHDOG=1", after=at)
        assert "stuck" not in " ".join(text for _, text in manager.messages)
        assert process.stop() == 0


def test_stop_with_stuck_stage_ends_in_time_and_not_0(engine: Launcher) -> None:
    (engine.folder / "wedge.py").write_text(WEDGE)
    process = engine.start(engine={"strategy": "wedge:make"}, command=HASTY)
    process.heartbeat(lambda f: f["admitted"] >= 20 and f["received"] > 60)
    started_at = time.monotonic()
    assert process.stop() == 14
    assert time.monotonic() - started_at < 5  # 0.3 s to drain, 0.3 s to store, 1 s for persist to give up
    assert "admitted ticks could not be stored" in process.last_error()["message"]


def test_pings_come_three_times_per_watchdog_interval(engine: Launcher) -> None:
    with Manager(engine.folder / "notify") as manager:
        process = engine.start(env={**manager.env, "WATCHDOG_USEC": "600000"})
        manager.wait("WATCHDOG=1")
        started_at = time.monotonic()
        for _ in range(5):
            manager.wait("WATCHDOG=1", after=max(manager.times("WATCHDOG=1")))
        assert time.monotonic() - started_at < 5 * 0.5
        assert process.stop() == 0


def test_unread_notify_socket_blocks_nothing(tmp_path: Path, engine: Launcher) -> None:
    kind = socket.AF_UNIX, socket.SOCK_DGRAM
    with contextlib.closing(socket.socket(*kind)) as deaf, contextlib.closing(socket.socket(*kind)) as filler:
        deaf.bind(str(tmp_path / "deaf"))
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:  # until its queue is full
                filler.sendto(b"x", str(tmp_path / "deaf"))
        process = engine.start(env={"NOTIFY_SOCKET": str(tmp_path / "deaf")})
        process.ready()
        process.heartbeat()
        assert process.stop(timeout_s=9) == 0


def test_missing_notify_socket_blocks_nothing(tmp_path: Path, engine: Launcher) -> None:
    process = engine.start("--seconds", "0.5", env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert process.code() == 0
