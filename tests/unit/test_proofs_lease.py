"""An undo leaves nothing of a run behind, at whichever moment its lease was being saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from proofs import lease
from proofs.host import Output
from proofs.lease import Lease


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lease, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr(lease, "_take_back", lambda *_: {"restored": True})
    monkeypatch.setattr("proofs.host._run", lambda *_: Output(0, "", ""))
    return tmp_path / "run"


def armed(root: Path, tmp_path: Path) -> Lease:
    return Lease("r1", "stall", "hybrid-engine.service", str(tmp_path / "events.jsonl"), 60.0, {"active": "active"})


def test_killed_while_the_first_lease_was_being_saved(root: Path, tmp_path: Path) -> None:
    (root / "r1").mkdir(parents=True)
    (root / "r1" / "lease.new").write_text("{")
    assert lease.undo("r1", "ExecStopPost", tmp_path) is None
    assert not (root / "r1").exists()


def test_killed_while_a_later_lease_was_being_saved(root: Path, tmp_path: Path) -> None:
    armed(root, tmp_path).save()
    (root / "r1" / "lease.new").write_text("{")
    assert lease.undo("r1", "ExecStopPost", tmp_path) == {"restored": True}
    assert not (root / "r1").exists()


def test_nothing_but_a_run_is_removed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    assert lease.undo("../else", "hand", tmp_path) is None
    assert (tmp_path / "else").is_dir()
