"""The catalogue: every proof is complete, and every mutant fits the engine of this checkout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import PROOFS, REQUIRED
from proofs.evidence.recorder import Recorder
from proofs.experiment.case import Deployed, Mutant
from proofs.experiment.subject import Subject, UnitCopy
from proofs.host.shell import Host

DEPLOYED = Deployed(10.0, 2.0, (0, 0))


def _lease(tmp_path: Path) -> Any:
    class Fake:
        scratch = tmp_path / "scratch"

    return Fake()


@pytest.mark.parametrize(
    ("name", "mutant"), [(name, m) for name, p in PROOFS.items() for m in p.mutants if not p.in_place]
)
def test_every_mutant_fits_this_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mutant: Mutant
) -> None:
    """A patch whose text is gone from the engine, or that makes no Python of it, is found here, not on a host."""
    lib = tmp_path / "release" / "lib"
    lib.mkdir(parents=True)
    shutil.copytree(Path(__file__).parents[4] / "hybrid_engine", lib / "hybrid_engine")
    monkeypatch.setattr("proofs.experiment.subject.RELEASE", tmp_path / "release")
    host = Host(Recorder(tmp_path / "events.jsonl"), name)
    copy = UnitCopy(host, Subject(host, "x.service", tmp_path, (0, 0)).unit, mutant.name, _lease(tmp_path), (0, 0))
    mutant.make(copy)
    assert copy.directives or copy.instead or copy.pick_sources([{"name": "a"}, {"name": "b"}]) == [{"name": "a"}]
    for path in copy.scratch.rglob("*.py"):
        compile(path.read_text(), path.name, "exec")


def test_catalogue_is_complete() -> None:
    assert {"exit12", "stall", "sampling", "failover", "shadow", "gate", "rollback", "hardening"} <= PROOFS.keys()
    assert {"crash", "overload", "network", "parse", "storage", "stop"} <= PROOFS.keys()
    playbooks = Path(__file__).parents[4] / "playbooks"
    assert {path.stem.removeprefix("prove_") for path in playbooks.glob("prove_*.yml")} >= PROOFS.keys()
    for required in REQUIRED.values():
        assert set(required) <= PROOFS.keys()
    for proof in PROOFS.values():
        assert proof.claim
        assert proof.bound
        assert proof.fault
        assert proof.mutants
        assert proof.cap_s > 8 * proof.seconds  # on a busy host, with its mutants beside it
        names = [case.name for case in proof.cases(DEPLOYED)]
        assert len(set(names)) == len(names) > 0
        for mutant in proof.mutants:
            assert {case.name for case in mutant.cases(DEPLOYED)} <= set(names)
