"""The unit under test: its scratch configuration, and the patch of a mutant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import storage
from proofs.evidence.recorder import Recorder
from proofs.experiment.subject import CannotMutate, Subject, UnitCopy, config
from proofs.host.regular_file import IrregularFile
from proofs.host.shell import Host


def _lease(tmp_path: Path) -> Any:
    class Fake:
        scratch = tmp_path / "scratch"

    return Fake()


def test_patch_needs_exactly_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "release" / "lib" / "hybrid_engine"
    package.mkdir(parents=True)
    (package / "one.py").write_text("guard = True\nother = 1\n")
    (package / "two.py").write_text("other = 1\n")
    monkeypatch.setattr("proofs.experiment.subject.RELEASE", tmp_path / "release")
    host = Host(Recorder(tmp_path / "events.jsonl"), "test")
    copy = UnitCopy(host, Subject(host, "x.service", tmp_path, (0, 0)).unit, "m", _lease(tmp_path), (0, 0))
    for text in ("nowhere", "other = 1"):
        with pytest.raises(CannotMutate):
            copy.patch(text, "")
    copy.patch("guard = True", "guard = False")
    assert (copy.scratch / "lib" / "hybrid_engine" / "one.py").read_text() == "guard = False\nother = 1\n"
    assert (package / "one.py").read_text() == "guard = True\nother = 1\n"
    assert any(line.startswith("BindReadOnlyPaths=") for line in copy.directives)


def test_scratch_config_is_toml() -> None:
    import tomllib

    assert tomllib.loads(config(ingest_mode="SYNTHETIC", tick_interval_ms=5)) == {
        "mode": "SHADOW",
        "engine": {"ingest_mode": "SYNTHETIC", "tick_interval_ms": 5, "psi_actions": "off"},
    }


def test_fresh_state_is_empty_and_what_it_linked_to_is_not(tmp_path: Path) -> None:
    """An engine may have put anything into its own directory."""
    host = Host(Recorder(tmp_path / "events.jsonl"), "test")
    subject = Subject(host, "x.service", tmp_path / "unit", (os.geteuid(), os.getegid()))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (subject.state / "hybrid.db").mkdir(parents=True)
    (subject.state / "hybrid.db" / "deep").touch()
    (subject.state / "hybrid.db-wal").symlink_to(outside)
    os.mkfifo(subject.state / "hybrid.db-shm")
    subject.fresh()
    assert list(subject.state.iterdir()) == []
    assert (outside / "kept").exists()


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_full_disk_is_filled_through_no_link(tmp_path: Path, kind: str) -> None:
    class Filled:
        state = tmp_path / "state"

    Filled.state.mkdir()
    target = tmp_path / "target"
    target.write_text("of somebody else")
    if kind == "link":
        (Filled.state / "ballast").symlink_to(target)
    else:
        os.mkfifo(Filled.state / "ballast")
    unchecked: Any = Filled
    with pytest.raises(IrregularFile, match="ballast is a "):
        storage._fill(unchecked)
    assert target.read_text() == "of somebody else"
