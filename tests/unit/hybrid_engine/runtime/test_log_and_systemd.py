"""What the engine says: JSON lines to the journal, datagrams to the service manager; and which release it is."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import pytest

import hybrid_engine
from hybrid_engine.runtime import log as journal
from hybrid_engine.runtime.log import Logger, LogRateLimiter
from hybrid_engine.runtime.systemd import Notifier
from tests.support.notify import Manager
from tests.support.process import clean_environment


def test_a_line_is_one_json_object_of_the_fields_form(capsys: pytest.CaptureFixture[str]) -> None:
    Logger("hybrid_engine.ingest").warn("odd\nthing", source="a\u2028b", path=Path("/x"), n=1, none=None, s="\ud800")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.isascii()
    line = json.loads(out)
    assert list(line) == ["timestamp", "level", "fields", "target"]
    assert (line["level"], line["target"]) == ("WARN", "hybrid_engine.ingest")
    wanted = {"message": "odd\nthing", "source": "a\u2028b", "path": "/x", "n": 1, "none": None, "s": "\ud800"}
    assert line["fields"] == wanted
    assert next(iter(line["fields"])) == "message"
    assert line["timestamp"].endswith("Z")
    datetime.fromisoformat(line["timestamp"])


def test_the_threshold_holds_back_what_is_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    log = Logger("x")
    for level in ("DEBUG", "INFO", "WARN", "ERROR"):
        journal.set_level(level)
        log.debug("d")
        log.info("i")
        log.warn("w")
        log.error("e")
        said = [json.loads(line)["fields"]["message"] for line in capsys.readouterr().out.splitlines()]
        assert said == list("diwe")[list(journal.LEVELS).index(level) :]


def test_lines_of_many_threads_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    log = Logger("x")

    def talk() -> None:
        for _ in range(50):
            log.info("m" * 500)

    threads = [threading.Thread(target=talk) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 300
    assert {json.loads(line)["fields"]["message"] for line in lines} == {"m" * 500}


def test_a_reader_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    Logger("x").error("into the void")


def test_a_throttle_lets_one_through_and_counts_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("hybrid_engine.runtime.log.time.monotonic", lambda: now[0])
    throttle = LogRateLimiter(5.0)
    assert throttle.pass_line() == 0
    assert [throttle.pass_line() for _ in range(3)] == [None, None, None]
    now[0] += 5.0
    assert throttle.pass_line() == 3
    now[0] += 6.0
    assert throttle.pass_line() == 0


@pytest.mark.parametrize("abstract", [False, True])
def test_every_message_arrives_as_sd_notify_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
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
        said = [text for _, text in manager.said]
    usec = said[3].partition("MONOTONIC_USEC=")[2]
    assert usec.isdigit()
    assert said == [
        "READY=1\nSTATUS=running",
        "WATCHDOG=1",
        "STATUS=well",
        f"RELOADING=1\nMONOTONIC_USEC={usec}",
        "STOPPING=1",
    ]


def test_without_a_manager_nothing_is_said_and_nothing_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
def test_the_watchdogs_time_is_read_if_it_is_ours(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "SELF" else pid)
    assert Notifier().watchdog_s == seconds


RELEASES: dict[str, tuple[str | bytes | None, str]] = {
    "good": ('{"name": "0.1.0-abc", "digest": "abcdef", "version": "9"}', "0.1.0-abc abcdef"),
    "not JSON": ("{", "unreleased unreleased"),
    "a list": ("[]", "unreleased unreleased"),
    "no digest": ('{"name": "x"}', "unreleased unreleased"),
    "no text": (b"\xff\xfe", "unreleased unreleased"),
    "missing": (None, "unreleased unreleased"),
}


@pytest.mark.parametrize("kind", RELEASES)
def test_a_release_knows_its_name_from_the_file_beside_its_lib(tmp_path: Path, kind: str) -> None:
    """The layout of a release, wherever it lies: `lib/hybrid_engine`, `release.json` beside `lib`."""
    content, wanted = RELEASES[kind]
    package = Path(hybrid_engine.__file__).parent
    shutil.copytree(package, tmp_path / "lib" / "hybrid_engine", ignore=shutil.ignore_patterns("__pycache__"))
    if content is not None:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "release.json").write_bytes(data)
    code = "from hybrid_engine.runtime.release import read_release; print(*read_release()[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment({"PYTHONPATH": str(tmp_path / "lib")}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == wanted
