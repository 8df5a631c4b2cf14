"""Nothing of a candidate stays, whatever it has written to its own directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.plugins.loading import module


def test_directories_of_any_depth_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate runs as the engine's user, and one that cannot be removed is in the way of every later deploy."""
    unit_candidate = module("unit_candidate")
    monkeypatch.setattr(unit_candidate, "show", lambda unit: {})
    monkeypatch.setattr(unit_candidate, "RUN_UNITS", str(tmp_path / "units"))
    candidate = unit_candidate.Candidate({"unit": "x.service", "dropins": [], "rolled_back": []})
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
