"""Drift, proven: verify names what was changed by hand, deploy heals it, and however the proof ends it leaves nothing.

The proof asks its controller, which is this test's playbook, for both; where nobody answers it says nothing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import PROOFS
from proofs.catalog.drift import DRIFTS
from proofs.evidence import recorder
from proofs.verifier import recompute
from tests.lab.deployment import CONFIG, UNIT, checkout_with, play
from tests.lab.labs import CHECKOUT, Lab, wait_for
from tests.lab.proof_runs import EVIDENCE, PROGRAM, events, picture, recorded_verdict
from tests.lab.stand_in import stand_in

pytestmark = pytest.mark.lab
ADDED = f"/etc/systemd/system/{UNIT}.d/60-added.conf"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they are now: what the proof has deployed must be what was deployed before it."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(CHECKOUT / "proofs", folder / "proofs", ignore=shutil.ignore_patterns("__pycache__"))
    return checkout_with(folder)


@pytest.fixture(scope="module")
def before(installed: Lab) -> dict[str, str]:
    return picture(installed)


@pytest.fixture(scope="module")
def home(installed: Lab, before: object, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence of one run."""
    root = tmp_path_factory.mktemp("evidence")
    play(installed, "prove_drift", release_checkout=checkout, proof_evidence=root)
    (evidence,) = (root / installed.name).iterdir()
    return evidence


@pytest.mark.holds("DRIFT")
def test_verify_names_each_drift_and_deploy_heals_it(home: Path, installed: Lab, before: dict[str, str]) -> None:
    (proof,) = json.loads((home / "statement.json").read_text())["predicate"]["proofs"]
    assert (proof["name"], proof["verdict"], proof["restored"]) == ("drift", "PASS", True), proof["reason"]
    named = {check["name"]: check["ok"] for case in proof["cases"] for check in case["checks"]}
    assert all(named[f"verify names {drift}"] for drift in DRIFTS)
    assert picture(installed) == before


@pytest.mark.holds("MUTANTS")
def test_drift_mutants_are_caught(home: Path) -> None:
    (proof,) = json.loads((home / "statement.json").read_text())["predicate"]["proofs"]
    red = {
        mutant["name"]: {check["name"] for case in mutant["cases"] for check in case["checks"] if check["ok"] is False}
        for mutant in proof["mutant"]["each"]
    }
    assert red["blind"] == {*(f"verify names {drift}" for drift in DRIFTS), "verify"}
    assert red["idle"] == {"left by the deploy", "red in the verify after it", "deploy, then verify"}


def test_controller_answers_are_recorded_and_judged_again(home: Path) -> None:
    seen = recorder.read(home / "events.jsonl")
    asked = [
        event["data"]["plays"] for event in seen if event["kind"] == "intent" and event["stdout"].startswith("ask")
    ]
    answers = [event for event in seen if event["kind"] == "answer"]
    assert asked == [["verify", "deploy"], ["verify"], ["deploy", "verify"], ["verify"], ["verify"]]
    assert [answer["rc"] for answer in answers] == [0, 2, 0, 0, 2]
    assert all(answer["argv"][0] == "ansible-playbook" for answer in answers)
    statement, complaints = recompute.rebuild(seen, PROOFS)
    assert complaints == []
    assert statement["predicate"]["proofs"] == json.loads((home / "statement.json").read_text())["predicate"]["proofs"]


@pytest.mark.holds("ADOPTION", "MUTANTS")
def test_service_of_somebody_else_is_taken_over_and_given_back(
    installed: Lab, before: dict[str, str], checkout: Path, tmp_path: Path
) -> None:
    play(installed, "prove_adoption", release_checkout=checkout, proof_evidence=tmp_path)
    (evidence,) = (tmp_path / installed.name).iterdir()
    (proof,) = json.loads((evidence / "statement.json").read_text())["predicate"]["proofs"]
    assert (proof["verdict"], proof["restored"]) == ("PASS", True), proof["reason"]
    red = {
        mutant["name"]: {check["name"] for case in mutant["cases"] for check in case["checks"] if check["ok"] is False}
        for mutant in proof["mutant"]["each"]
    }
    assert red["forgetful"] == {"not back as it was"}
    assert {"deploy with engine_adopt", "runs after it"} <= red["unasked"]
    seen = recorder.read(evidence / "events.jsonl")
    statement, complaints = recompute.rebuild(seen, PROOFS)
    assert (complaints, statement["predicate"]["proofs"]) == ([], [proof])
    assert picture(installed) == before


def test_unanswered_request_blocks_other_deployments(
    installed: Lab, before: dict[str, str], checkout: Path, tmp_path: Path
) -> None:
    installed.root(PROGRAM, "run", "drift", "--run", "alone", "--no-wait")
    wait_for("its ask", lambda: installed.root("ls", "/run/hybrid-proofs/alone/asks", check=False).stdout, 60)
    # One that has no end in sight: the ask is not given up while the playbooks are looked at.
    installed.root("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "hybrid-proof-alone.service")
    try:
        for playbook, words in (("deploy", {}), ("rollback", {"dropin": "40-hardening"}), ("restore", {"dropin": "x"})):
            result = play(installed, playbook, check=False, release_checkout=checkout, **words)
            assert result.rc != 0
            assert result.changes == []
            assert "A proof holds it: run alone, pid " in result.text
            assert "systemctl stop hybrid-proof-alone.service" in result.text
    finally:
        installed.root("systemctl", "kill", "--kill-whom=main", "--signal=CONT", "hybrid-proof-alone.service")
    wait_for("its end", lambda: picture(installed) == before, 120)
    assert recorded_verdict(installed, "alone", tmp_path) == "INCONCLUSIVE"
    statement: dict[str, Any] = json.loads(installed.root("cat", f"{EVIDENCE}/alone/statement.json").stdout)
    (proof,) = statement["predicate"]["proofs"]
    assert "no controller answered" in proof["reason"]
    assert not [event for event in events(installed, "alone") if event["stdout"].startswith("fault: ")]


def begun(lab: Lab, run: str) -> None:
    """A run that has edited everything by now."""
    stand_in(lab)
    lab.root(PROGRAM, "run", "drift", "--run", run, "--no-wait")
    path = f"{EVIDENCE}/{run}/events.jsonl"
    wait_for("the fault", lambda: '"kind": "witness"' in lab.root("cat", path, check=False).stdout, 60)


def undone(lab: Lab, run: str) -> list[tuple[str, bool, list[str]]]:
    reports = [event["data"] for event in events(lab, run) if event["kind"] == "undone"]
    return [(report["by"], report["restored"], report["problems"]) for report in reports]


@pytest.mark.holds("RESTORED")
def test_kill_with_edited_etc_is_undone(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    begun(installed, "killed")
    installed.root("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "hybrid-proof-killed.service")
    wait_for("the undo", lambda: undone(installed, "killed"), 60)
    wait_for("its end", lambda: picture(installed) == before, 30)
    assert undone(installed, "killed") == [("ExecStopPost", True, [])]
    assert recorded_verdict(installed, "killed", tmp_path) == "ERROR"


@pytest.mark.holds("RESTORED")
def test_power_cut_with_edited_etc_is_undone(installed: Lab, before: dict[str, str], tmp_path: Path) -> None:
    begun(installed, "cut")
    installed.kill()
    installed.boot()
    wait_for("the undo after the boot", lambda: undone(installed, "cut"), 60)
    wait_for("its end", lambda: picture(installed) == before, 30)
    assert undone(installed, "cut") == [("boot", True, [])]
    assert installed.root("test", "-e", ADDED, check=False).returncode != 0
    assert "changed by hand" not in installed.root("systemctl", "show", UNIT).stdout
    assert installed.root("grep", "-c", "sample_every = 1$", CONFIG).stdout.strip() == "1"
    assert recorded_verdict(installed, "cut", tmp_path) == "ERROR"
