"""A file system that a proof mounted goes with its lease, before the directory under it, or is named as a problem."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proofs.evidence.recorder import Recorder
from proofs.host.shell import Host, Output
from proofs.restore import lease
from tests.support.proof_run import SHOWN

BEFORE = {"active": "active", "cat_sha256": "c", "etc_sha256": "e"}


@pytest.mark.parametrize(("works", "problems"), [(True, []), (False, ["{place} is still mounted"])])
def test_undo_unmounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool, problems: list[str]) -> None:
    place = tmp_path / "run" / "r1" / "storage" / "unit" / "state"
    place.mkdir(parents=True)
    (place / "ballast").write_text("x")
    mounted = {str(place)}
    seen: list[tuple[tuple[str, ...], bool]] = []

    def run(argv: tuple[str, ...]) -> Output:
        seen.append((argv, (place / "ballast").exists()))
        if argv[0] == "umount" and works:
            mounted.discard(argv[-1])
        return Output(0, SHOWN, "")

    monkeypatch.setattr("proofs.host.shell._run", run)
    monkeypatch.setattr(lease, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr(lease, "snapshot", lambda unit, config_dir: BEFORE)
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) in mounted)
    host = Host(Recorder(tmp_path / "events.jsonl"), "storage")
    given = lease.Lease("r1", "storage", "some.service", str(tmp_path / "events.jsonl"), 60, BEFORE)
    given.will_mount(place)
    kept = lease.load("r1")
    assert kept
    assert kept.mounts == [str(place)]  # on the disk: whoever undoes it may be another process

    report = lease.undo("r1", "timer", tmp_path, host)

    assert report
    assert report["problems"] == [problem.format(place=place) for problem in problems]
    assert report["restored"] is works
    (unmounted,) = [there for argv, there in seen if argv == ("umount", "--lazy", str(place))]
    assert unmounted  # its files were not taken for ours
    assert lease.load("r1") is None
