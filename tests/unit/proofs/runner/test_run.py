"""What `follow` tells a controller of a run: its progress, and that it is over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proofs.runner import run as module

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
