"""Progress on stderr: nothing of a short command, and nothing that ends a long one."""

from __future__ import annotations

import contextlib
import os
import sys

import pytest

from hybrid_engine.runtime import progress
from hybrid_engine.runtime.progress import Progress


def test_short_command_prints_its_end_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress()
    shown.show("1 of 2")
    shown.finish("done")
    assert capsys.readouterr().err == "hybrid-engine: done\n"


def test_long_command_prints_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_S", 0)
    shown = Progress()
    shown.show("1 of 3")
    shown.show("2 of 3")  # too soon after the first
    shown.finish("done")
    assert capsys.readouterr().err == "hybrid-engine: 1 of 3\nhybrid-engine: done\n"


def test_terminal_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_S", 0)
    monkeypatch.setattr(progress, "TERMINAL_S", 0)
    reader, terminal = os.openpty()
    with open(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        shown = Progress()
        for text in ("1 of 2", "2 of 2"):
            shown.show(text)
        shown.finish("done")
    output = b""
    with contextlib.suppress(OSError):  # the end of a terminal; a read before it has any part of what was written
        while True:
            output += os.read(reader, 1000)
    os.close(reader)
    expected = "".join(f"\r\x1b[Khybrid-engine: {text}" for text in ("1 of 2", "2 of 2", "done")) + "\r\n"
    assert output.decode() == expected


def test_nobody_who_reads_it_does_not_end_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_S", 0)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        Progress().show("1 of 2")
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            stream.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # closing flushes again
