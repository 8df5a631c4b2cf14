"""What `follow` tells a controller of a run: its progress, and that it is over."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from proofs.experiment import controller_requests
from proofs.runner import progress as module

PROGRESS = "[   1.5 s] exit12: begins\n"


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        ("active", False),
        ("activating", False),
        ("deactivating", False),  # the undo goes on, and the statement comes after it
        ("reloading", False),
        ("", False),  # systemd did not answer
        ("inactive", True),
        ("failed", True),
    ],
)
def test_run_is_over_when_its_unit_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, ended: bool
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho {answer}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(module, "EVIDENCE_ROOT", tmp_path)
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1" / "progress.log").write_text(PROGRESS)
    assert module.follow("run-1", 0, 0) == 0
    assert json.loads(capsys.readouterr().out) == {"text": PROGRESS, "next": len(PROGRESS), "ended": ended}


@pytest.mark.parametrize(
    ("progress", "ended", "asked", "waited_s"),
    [
        (PROGRESS, False, None, 3.0),  # the news of some seconds at once
        ("", False, None, 10.0),
        (PROGRESS, True, None, 0.0),
        ("", True, None, 0.0),
        ("", False, {"number": 1}, 0.0),
    ],
)
def test_news_are_gathered_for_a_while_but_an_end_or_an_ask_is_told_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    progress: str,
    ended: bool,
    asked: dict[str, int] | None,
    waited_s: float,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda s: clock.append(clock.pop() + s))
    monkeypatch.setattr(module, "_ended", lambda run_id: ended)
    monkeypatch.setattr(controller_requests, "open_ask", lambda run_id: asked)
    monkeypatch.setattr(module, "EVIDENCE_ROOT", tmp_path)
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1" / "progress.log").write_text(progress)
    module.follow("run-1", 0, 10.0, answers=True)
    assert json.loads(capsys.readouterr().out)["text"] == progress
    assert waited_s <= clock[0] < waited_s + 1
