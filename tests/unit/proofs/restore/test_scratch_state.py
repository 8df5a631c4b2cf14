"""An engine on a scratch database never gets to the operator's: it is stopped before the files that bind it go."""

from __future__ import annotations

from pathlib import Path

import pytest

from proofs.evidence.recorder import Recorder
from proofs.host.shell import Host, Output
from proofs.restore import lease
from tests.support.proof_run import SHOWN

UNIT = "some.service"


@pytest.mark.holds("RESTORED")
@pytest.mark.parametrize("former", ["active", "inactive"])
def test_killed_engine_cannot_start_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, former: str) -> None:
    before = {"active": former, "cat_sha256": "c", "etc_sha256": "e"}
    dropin = tmp_path / "50-scratch.conf"
    dropin.write_text("[Service]\n")
    there: dict[tuple[str, ...], bool] = {}

    def run(argv: tuple[str, ...]) -> Output:
        there.setdefault(argv, dropin.exists())
        return Output(0, SHOWN, "")

    monkeypatch.setattr("proofs.host.shell._run", run)
    monkeypatch.setattr(lease, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr(lease, "snapshot", lambda unit, config_dir: before)
    monkeypatch.setattr(lease, "_RESTORED_S", 0.0)
    host = Host(Recorder(tmp_path / "events.jsonl"), "stall")
    given = lease.Lease("r1", "stall", UNIT, str(tmp_path / "events.jsonl"), 60, before, [str(dropin)])
    given.leave_work()

    lease.undo("r1", "the proof itself", tmp_path, host)

    assert there["systemctl", "kill", "--kill-whom=all", "--signal=KILL", UNIT]
    assert there["systemctl", "stop", UNIT]  # Restart= would start it after RestartSec=, at whatever moment that is
    assert not there["systemctl", "daemon-reload"]
