"""One candidate at a time, and nothing of it stays, whatever it has written to its own directory."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from tests.unit.plugins.loading import module


def test_directories_of_any_depth_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate runs as the engine's user, and one that cannot be removed is in the way of every later deploy."""
    unit_candidate = module("unit_candidate")
    monkeypatch.setattr(unit_candidate, "show", lambda unit: {})
    monkeypatch.setattr(unit_candidate, "RUN_UNITS", str(tmp_path / "units"))
    candidate = unit_candidate.Candidate({"unit": "x.service", "dropins": [], "rolled_back": [], "unmanaged": []})
    candidate.home = str(tmp_path / "home")
    handle = os.open(tmp_path, os.O_RDONLY)
    for name in ["home", *["x"] * 3000]:
        os.mkdir(name, dir_fd=handle)
        below = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    candidate.remove()
    assert os.listdir(tmp_path) == []


def test_second_deployment_is_told_who_has_a_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit_candidate = module("unit_candidate")
    monkeypatch.setenv("SUDO_USER", "anna")
    path = str(tmp_path / "lock")
    with unit_candidate.hold_lock(path):
        assert os.stat(path).st_mode & 0o777 == 0o600
        with (
            pytest.raises(unit_candidate.BusyError, match=rf"^anna, process {os.getpid()}, since \d{{4}}-"),
            unit_candidate.hold_lock(path),
        ):
            pass
        assert os.path.exists(path), "the holder's"
    assert os.listdir(tmp_path) == []
    (tmp_path / "lock").write_text("of one that was killed, and had longer to say: " + "x" * 500)
    with unit_candidate.hold_lock(path):
        assert (tmp_path / "lock").read_text().startswith("anna, process ")
        assert "x" not in (tmp_path / "lock").read_text()


def test_candidate_of_another_deployment_is_waited_for(tmp_path: Path) -> None:
    """As of one whose controller was killed: what it left on the host ends by itself."""
    unit_candidate = module("unit_candidate")
    path = str(tmp_path / "lock")
    held = contextlib.ExitStack()
    held.enter_context(unit_candidate.hold_lock(path))
    threading.Timer(0.5, held.close).start()
    with unit_candidate.hold_lock(path, 30) as other:
        assert f"process {os.getpid()}, since " in other
    with unit_candidate.hold_lock(path, 30) as other:
        assert other == ""


def test_lock_is_no_link(tmp_path: Path) -> None:
    unit_candidate = module("unit_candidate")
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Too many levels"), unit_candidate.hold_lock(str(tmp_path / "lock")):
        pass
    assert not (tmp_path / "elsewhere").exists()
