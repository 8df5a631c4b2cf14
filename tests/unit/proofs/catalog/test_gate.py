"""gate's rules; and each way to be refused spoils what it says, of a bundle that is otherwise sound."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog._live_fixture import LiveFixture
from proofs.catalog.gate import OPEN, PROOF, WAYS, Live
from proofs.evidence import unit_parts
from proofs.evidence.recorder import Recorder
from proofs.experiment.case import Deployed, judge
from proofs.experiment.subject import Subject
from proofs.host.shell import Host
from proofs.verdict import Result
from tests.support.witnesses import genuine

DEPLOYED = Deployed(10.0, 2.0, (0, 0))
CASES = [case for case in PROOF.cases(DEPLOYED) if isinstance(case, Live)]
STARTED = {"release_digest": "a" * 64, "config_digest": "c" * 64}


def of(case: Live, **measured: Any) -> Result:
    due = next((way.reason for way in WAYS if way.name == case.name), OPEN)
    found = {"exec_main_status": 12, "active": "failed", "starts": 1, "said": f"refused, {due}", "ready": 0, "runs": 0}
    return judge(case, genuine(case), found | {"n": 1, "ended": 12, "watched_s": 6.0} | measured)


def test_each_defect_is_a_case_and_sound_is_last() -> None:
    assert [case.name for case in CASES] == [*(way.name for way in WAYS), "nothing is wrong"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_only_its_own_reason_passes(case: Live) -> None:
    assert of(case).verdict == "PASS"
    assert of(case, said="refused, because").failed_at_guard
    assert of(case, said="").failed_at_guard


@pytest.mark.parametrize("case", CASES[:-1], ids=lambda case: case.name)
def test_open_gate_fails_at_the_guard(case: Live) -> None:
    assert of(case, said=f"{OPEN} (hybrid_engine.adapters)").failed_at_guard
    assert of(case, said="", ready=1, runs=1).failed_at_guard or of(case, ready=1).failed_at_guard


@pytest.mark.parametrize("measured", [{"exec_main_status": 1}, {"active": "activating"}, {"starts": 2}, {"ended": -11}])
def test_another_exit_fails_elsewhere(measured: dict[str, Any]) -> None:
    result = of(CASES[0], **measured)
    assert result.verdict == "FAIL"
    assert not result.failed_at_guard


def test_sound_bundle_is_watched_for_a_restart() -> None:
    assert of(CASES[-1], watched_s=5.9).verdict == "FAIL"
    assert of(CASES[0], watched_s=0.0).verdict == "PASS"


@pytest.fixture
def fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LiveFixture:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen (Debian: openssh-client) is not installed")
    monkeypatch.setattr("os.chown", lambda *_: None)  # who runs the tests need not be root
    subject = Subject(Host(Recorder(tmp_path / "events.jsonl"), "test"), "none.service", tmp_path / "scratch", (0, 0))
    subject.etc.mkdir(parents=True)
    monkeypatch.setattr(Subject, "mask", lambda subject, drop_in: None)
    monkeypatch.setattr(LiveFixture, "drop_ins", lambda fixture: ["20-resources.conf"])
    monkeypatch.setattr(LiveFixture, "unit_parts", lambda fixture: [unit_parts.of_file("/x.service", b"")])
    fixture = LiveFixture(subject)
    fixture.environment.write_text(json.dumps([unit_parts.part(unit_parts.ENVIRONMENT, "PATH", b"/usr/bin")]))
    fixture.make_keys()
    fixture.good(STARTED)
    return fixture


def test_sound_bundle_is_signed_without_its_key(fixture: LiveFixture) -> None:
    fixture.write()
    assert fixture.holds()
    assert fixture.on_disk() == fixture.sound
    assert not [path for path in fixture.subject.etc.rglob("*") if path.is_file() and "PRIVATE KEY" in path.read_text()]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_each_defect_shows_on_disk(fixture: LiveFixture, way: Any) -> None:
    way.spoil(fixture)
    fixture.write()
    assert way.seen(fixture)
    assert fixture.holds() == way.holds


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_sound_bundle_shows_no_defect(fixture: LiveFixture, way: Any) -> None:
    fixture.write()
    assert not way.seen(fixture)
