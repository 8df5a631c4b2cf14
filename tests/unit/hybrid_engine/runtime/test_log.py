"""The log: the format of a line, levels, threads, a missing reader, the rate limit."""

from __future__ import annotations

import fcntl
import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hybrid_engine.runtime import log as journal
from hybrid_engine.runtime.log import Logger, LogRateLimiter


def test_log_line_format(capsys: pytest.CaptureFixture[str]) -> None:
    Logger("hybrid_engine.ingest").warn("odd\nthing", source="a\u2028b", path=Path("/x"), n=1, none=None, s="\ud800")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.isascii()
    line = json.loads(out)
    assert list(line) == ["timestamp", "level", "fields", "target"]
    assert (line["level"], line["target"]) == ("WARN", "hybrid_engine.ingest")
    expected = {"message": "odd\nthing", "source": "a\u2028b", "path": "/x", "n": 1, "none": None, "s": "\ud800"}
    assert line["fields"] == expected
    assert next(iter(line["fields"])) == "message"
    assert line["timestamp"].endswith("Z")
    datetime.fromisoformat(line["timestamp"])


def test_log_level_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    log = Logger("x")
    for level in ("DEBUG", "INFO", "WARN", "ERROR"):
        journal.set_level(level)
        log.debug("d")
        log.info("i")
        log.warn("w")
        log.error("e")
        message = [json.loads(line)["fields"]["message"] for line in capsys.readouterr().out.splitlines()]
        assert message == list("diwe")[list(journal.LEVELS).index(level) :]


def test_lines_of_threads_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_log_without_reader_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    Logger("x").error("into the void")


@contextmanager
def pipe_as_stdout(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The reading end of a pipe with four pages that is stdout."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4 * 4096)
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(journal, "_output", journal._Output())
        patch.setattr(journal, "_threshold", journal.LEVELS["INFO"])
        yield reading
    os.close(reading)


def read_all(reading: int) -> list[dict[str, Any]]:
    """The fields of every whole line that is there."""
    return [json.loads(line)["fields"] for line in os.read(reading, 65536).splitlines(keepends=True) if b"\n" in line]


def test_log_that_nobody_reads_holds_nothing_up_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pipe_as_stdout(monkeypatch) as reading:
        log = Logger("x")
        for number in range(1000):
            log.info("m" * 100, number=number)
        first = read_all(reading)
        log.info("on")
        *rest, told, last = read_all(reading)
        log.info("and on")
        (end,) = read_all(reading)
    numbers = [line["number"] for line in [*first, *rest]]
    assert numbers == list(range(len(numbers)))
    assert 20 < len(numbers) < 100
    assert told == {"message": "the log was not read, lines of it are lost", "lost": 1000 - len(numbers)}
    assert (last["message"], end["message"]) == ("on", "and on")


def test_line_longer_than_a_pipe_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    with pipe_as_stdout(monkeypatch) as reading:
        log = Logger("x")
        log.info("m" * 40_000)
        text = b""
        for _ in range(3):
            text += os.read(reading, 65536)
            log.info("more")
        text += os.read(reading, 65536)
    messages = [json.loads(line)["fields"]["message"] for line in text.splitlines()]
    assert messages == ["m" * 40_000, "the log was not read, lines of it are lost", "more", "more"]


def test_rate_limiter_passes_one_and_counts_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("hybrid_engine.runtime.log.time.monotonic", lambda: now[0])
    limiter = LogRateLimiter(Logger("x"), 5.0)

    def warn(times: int = 1) -> list[tuple[int, int]]:
        """What the lines say that passed."""
        for number in range(times):
            limiter.warn("full", number=number)
        fields = [json.loads(line)["fields"] for line in capsys.readouterr().out.splitlines()]
        return [(line["number"], line["held_back"]) for line in fields]

    assert warn() == [(0, 0)]
    assert warn(3) == []
    now[0] += 5.0
    assert warn() == [(0, 3)]
    now[0] += 6.0
    assert warn(2) == [(0, 0)]
