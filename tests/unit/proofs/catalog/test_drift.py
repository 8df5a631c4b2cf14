"""The proof drift: its rules, the files that it edits and restores, and its requests to the controller."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from proofs.catalog import PROOFS, REQUIRED
from proofs.catalog.drift import ASSERTIONS, DRIFTS, Healed, Named, _named_drifts
from proofs.evidence import host_input
from proofs.evidence.recorder import Recorder
from proofs.experiment import controller_requests
from proofs.experiment.case import Deployed, NotSteady
from proofs.experiment.controller_requests import Answer, Unanswered
from proofs.experiment.in_place import InPlace, NotALab
from proofs.host.kind import kind_of_host
from proofs.host.shell import Host, Output
from proofs.restore import file_backups, lease
from proofs.restore.lease import Lease
from proofs.runner import run
from tests.support.judging import judge_with

ROOT = Path(__file__).parents[4]
DEPLOYED = Deployed(10.0, 2.0, (0, 0))
UNIT, CONFIG = "/etc/systemd/system/hybrid-engine.service", "/etc/hybrid-engine/config.toml"
OTHER = f": sha256 {64 * 'a'} where {64 * 'b'} was deployed"
# As verify's lines stand in the answer: JSON strings of Ansible's.
SAID = f"""
            "E   AssertionError: unmanaged drop-ins are in force: {UNIT}.d/60-added.conf",
            "E   AssertionError: lib/hybrid_engine/domain/events.py is not as it was built",
            "E   AssertionError: {UNIT}{OTHER}; {CONFIG}{OTHER}; {CONFIG}: mode 0664 where 0640 was deployed (x)",
            "E   AssertionError: hybrid-engine.service changed on the disk since systemd read it: deploy, or x",
            "FAILED tests/verify/test_unit.py::test_loaded_from_its_own_file - AssertionError: hybrid-...",
            "E   AssertionError: the process works elsewhere than in its state directory",
            "FAILED tests/verify/test_dropins.py::test_nobody_else_changes_the_unit - AssertionError: un...",
            "FAILED tests/verify/test_release.py::test_release_is_what_its_name_says - AssertionError: ...",
            "FAILED tests/verify/test_release.py::test_deployed_files_are_as_deployed - AssertionError:...",
            "FAILED tests/verify/test_unit.py::test_works_in_its_canonical_directory - AssertionError: ...",
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(lease, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr("proofs.host.shell._run", lambda argv: Output(0, "", ""))
    (tmp_path / "evidence").mkdir()
    return Host(Recorder(tmp_path / "evidence" / "events.jsonl"), "drift")


def test_each_drift_is_named_by_its_assertion() -> None:
    assert _named_drifts(Answer((), 2, SAID, "")) == dict.fromkeys(DRIFTS, True)
    for assertion in {drift.assertion for drift in DRIFTS.values()}:
        blind = SAID.replace(f"tests/verify/{assertion}", "tests/verify/test_x.py::test_y")
        said = _named_drifts(Answer((), 2, blind, ""))
        assert [name for name, named in said.items() if not named] == [
            name for name, drift in DRIFTS.items() if drift.assertion == assertion
        ]
    mute = SAID.replace(f"{CONFIG}:", "somewhere:").replace(f"{UNIT}:", "somewhere:")
    assert {name for name, named in _named_drifts(Answer((), 2, mute, "")).items() if not named} == {
        "the unit edited",
        "the config changed",
        "the mode of the config changed",
    }


def test_assertions_exist() -> None:
    for assertion in ASSERTIONS:
        path, _, name = assertion.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text()


def judged(case: Any, **measured: object) -> tuple[str, bool]:
    result = judge_with(case, {"n": len(DRIFTS), **measured})
    return str(result.verdict), result.failed_at_guard


def test_verdicts() -> None:
    named, all_of_them = Named(DEPLOYED), dict.fromkeys(DRIFTS, True)
    assert judged(named, verify=2, red=[], named=all_of_them) == ("PASS", False)
    for drift in DRIFTS:
        assert judged(named, verify=2, red=[], named={**all_of_them, drift: False}) == ("FAIL", True)
    assert judged(named, verify=None, red=[], named=dict.fromkeys(DRIFTS, False)) == ("INCONCLUSIVE", False)
    healed = Healed(DEPLOYED)
    assert judged(healed, rc=0, red=[], left=[]) == ("PASS", False)
    assert judged(healed, rc=0, red=[], left=[CONFIG]) == ("FAIL", True)
    assert judged(healed, rc=2, red=[], left=[]) == ("FAIL", True)
    assert judged(healed, rc=2, red=["test_unit.py::test_enabled"], left=[]) == ("FAIL", True)
    assert judged(healed, rc=None, red=[], left=[CONFIG]) == ("INCONCLUSIVE", False)


def test_only_a_lab_is_edited(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a machine nor a container that a NUC is made of, and not either by what lies on its disk."""
    path = tmp_path / "unit"
    path.write_text("as deployed\n")
    place = InPlace(host, "x.service", armed(tmp_path), (0, 0))
    for virt, marked in (("none\n", 0), ("lxc\n", 0), ("docker\n", 0), ("systemd-nspawn\n", 1)):
        answers = {"systemd-detect-virt": Output(0, virt, ""), "grep": Output(marked, "", "")}
        monkeypatch.setattr("proofs.host.shell._run", lambda argv, answers=answers: answers[argv[0]])
        with pytest.raises(NotALab, match=r"this is no lab|not started as a lab"):
            place.edit({path: "by hand\n"}, {}, {})
        assert path.read_text() == "as deployed\n"
        assert PROOFS["drift"].not_applicable(host)
        assert kind_of_host(host) == "nuc"
        assert run.applicable([PROOFS["stall"], PROOFS["drift"]], host) == ["stall"]
        assert run.applicable([PROOFS["drift"]], host) == ["drift"]
    assert "drift" not in REQUIRED["nuc"]


def test_nothing_is_edited_without_a_controller(host: Host, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(controller_requests, "_SEEN_S", 0.0)
    place = InPlace(host, "x.service", armed(tmp_path), (0, 0))
    with pytest.raises(Unanswered, match="no controller answered"):
        Named(DEPLOYED).steady(place)
    with pytest.raises(NotSteady):
        Healed(DEPLOYED).steady(place)


def armed(tmp_path: Path) -> Lease:
    events = str(tmp_path / "evidence" / "events.jsonl")
    return Lease("r1", "drift", "hybrid-engine.service", events, 60.0, {"active": "active"})


def test_files_come_back_byte_for_byte(host: Host, tmp_path: Path) -> None:
    edited, added = tmp_path / "edited", tmp_path / "added"
    edited.write_bytes(b"as deployed\n\xff")
    edited.chmod(0o640)
    os.utime(edited, ns=(10**18, 10**18 + 1))
    mine = armed(tmp_path)
    mine.will_edit(host, edited, added)
    assert lease.load("r1") == mine
    assert file_backups.changed(mine.originals) == []
    edited.write_text("by hand")
    edited.chmod(0o600)
    added.write_text("by hand")
    mine.will_edit(host, edited, added)  # the second fault must not take the first for what was there
    assert file_backups.changed(mine.originals) == [str(edited), str(added)]
    for _ in range(2):
        file_backups.put_back(mine.originals)
        about = edited.stat()
        assert (edited.read_bytes(), about.st_mode & 0o7777) == (b"as deployed\n\xff", 0o640)
        assert about.st_mtime_ns == 10**18 + 1
        assert sorted(tmp_path.glob("*ed")) == [edited]
    file_backups.remove_backups(mine.originals)
    assert not (tmp_path / "evidence" / "originals").exists()


def test_undo_waits_for_a_running_deployment_only(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would put back what it found, which is the drift, when the engine ends under it."""
    monkeypatch.setattr(lease, "_DEPLOYING", tmp_path)
    monkeypatch.setattr(lease, "_DEPLOYED_S", 0.3)
    under_way, edited = tmp_path / "hybrid-engine.service.json", tmp_path / "edited"
    edited.write_text("as deployed")
    mine = armed(tmp_path)
    mine.will_edit(host, edited)
    put_back, times = file_backups.put_back, []

    def meanwhile(kept: file_backups.Originals) -> None:
        put_back(kept)
        times.append(edited.read_text())
        if len(times) == 1:  # one began in this moment, and takes its change back: the drift is there again
            under_way.touch()
            edited.write_text("by hand")

    monkeypatch.setattr(file_backups, "put_back", meanwhile)
    edited.write_text("by hand")
    lease._restore_files(mine, host)
    assert times == ["as deployed", "as deployed"]
    assert edited.read_text() == "as deployed"
    assert not under_way.exists()


def controller(answer: Callable[[Any], dict[str, object]]) -> threading.Thread:
    """One that follows run r1 until it has answered once."""

    def work() -> None:
        while (asked := controller_requests.open_ask("r1")) is None:
            pass
        controller_requests.answer("r1", asked["number"], json.dumps(answer(asked)))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_request_is_answered_and_recorded(host: Host) -> None:
    told = {"argv": ["ansible-playbook", "verify.yml"], "rc": 2, "stdout": "red\n", "stderr": ""}
    thread = controller(lambda asked: {**told, "stderr": json.dumps(asked)})
    answer = controller_requests.ask(host, "r1", ["verify"], without=ASSERTIONS)
    thread.join()
    assert (answer.rc, answer.stdout) == (2, "red\n")
    assert json.loads(answer.stderr) == {"number": 1, "plays": ["verify"], "check": False, "without": ASSERTIONS}
    lines = host.recorder.path.read_text().splitlines()
    last = json.loads(lines[-1])
    assert (last["kind"], last["rc"], last["argv"], last["stdout"]) == ("answer", 2, told["argv"], "red\n")
    assert controller_requests.open_ask("r1") is None
    for number, text in ((1, json.dumps(told)), (2, json.dumps(told))):
        with pytest.raises(ValueError, match="does not wait for an answer"):
            controller_requests.answer("r1", number, text)


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"argv": [], "rc": "0", "stdout": "", "stderr": ""}', '{"argv": [], "rc": 0, "stdout": ""}']
)
def test_malformed_answer_is_refused(host: Host, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_requests, "_SEEN_S", 0.0)
    with pytest.raises(Unanswered, match="no controller answered"):
        controller_requests.ask(host, "r1", ["verify"])
    with pytest.raises(ValueError, match=r"answer|Expecting"):
        controller_requests.answer("r1", 1, text)
    assert controller_requests.open_ask("r1") is not None


def test_lost_controller_is_reported_apart_from_none(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_requests, "_ANSWER_S", 0.0)
    monkeypatch.setattr(controller_requests, "_put", lambda path, value: path.with_suffix(".seen").touch())
    with pytest.raises(Unanswered, match="did not tell in 0 s what came of deploy, verify"):
        controller_requests.ask(host, "r1", ["deploy", "verify"])


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    path = ROOT / "plugins/action/proof_run.py"
    spec = importlib.util.spec_from_file_location("proof_run_action", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_controller_plays_only_what_a_proof_may_ask(plugin: ModuleType) -> None:
    """The ask comes from the host under test, which has no say in what else the controller does."""
    ask = {"number": 1, "plays": ["deploy", "verify"], "check": True, "without": ASSERTIONS}
    parsed = host_input.parse_ask(ask)
    assert plugin.playbook_words(parsed) == ["--check", "deploy.yml", "verify.yml"]
    assert parsed.without == tuple(ASSERTIONS)
    assert host_input.ASK_PLAYS == controller_requests.PLAYS
    wrongs: list[dict[str, list[str]]] = [
        {"plays": ["rollback"]},
        {"plays": []},
        {"plays": ["../../x"]},
        {"plays": ["deploy", "lab_down"]},
        {"without": ["--collect-only"]},
        {"without": ["tests/verify/test_unit.py::test_x --pdb"]},
    ]
    for wrong in wrongs:
        with pytest.raises(host_input.HostInputError, match="a proof asked"):
            host_input.parse_ask({**ask, **wrong})
