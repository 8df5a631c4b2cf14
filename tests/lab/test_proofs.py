"""The proofs on a host that Ansible deployed to: they PASS, their mutants FAIL, and the evidence bears it out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proofs import bundle, evidence
from proofs.catalog import PROOFS
from tests.lab.deploying import fingerprint
from tests.lab.labs import Lab
from tests.lab.proving import EVIDENCE, PROGRAM, install, picture

pytestmark = pytest.mark.lab
Entry = dict[str, Any]


@pytest.fixture(scope="module")
def installed(lab: Lab) -> Lab:
    install(lab)
    return lab


@pytest.fixture(scope="module")
def before(installed: Lab) -> dict[str, str]:
    return picture(installed)


@pytest.fixture(scope="module")
def home(installed: Lab, before: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence of one run of everything, as the playbook brought it home."""
    root = tmp_path_factory.mktemp("evidence")
    done = installed.ansible("prove.yml", f"-eproof_evidence={root}", check=False)
    (found,) = (root / installed.name).iterdir()
    assert done.returncode == 0, done.stdout + done.stderr
    return found


@pytest.fixture(scope="module")
def statement(home: Path) -> Entry:
    found: Entry = json.loads((home / "statement.json").read_text())
    return found


def entry(statement: Entry, name: str) -> Entry:
    (found,) = (proof for proof in statement["predicate"]["proofs"] if proof["name"] == name)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", PROOFS)
def test_passes(statement: Entry, name: str) -> None:
    proof = entry(statement, name)
    assert proof["verdict"] == "PASS", proof["reason"]
    assert {case["verdict"] for case in proof["cases"]} == {"PASS"}
    assert proof["restored"]
    assert proof["measured"]
    assert proof["bound"]
    assert proof["n"] >= 1
    assert all(proof["witness"].values())


@pytest.mark.holds("MUTANTS")
@pytest.mark.parametrize(("name", "mutant"), [(name, m.name) for name, p in PROOFS.items() for m in p.mutants])
def test_mutant_is_caught_at_the_guard(statement: Entry, name: str, mutant: str) -> None:
    proof = entry(statement, name)
    (said,) = (each for each in proof["mutant"]["each"] if each["name"] == mutant)
    assert said["verdict"] == "FAIL", said["reason"]
    failed = [case for case in said["cases"] if case["verdict"] == "FAIL"]
    assert failed
    for case in failed:
        assert case["witness"]
        assert all(check["guard"] for check in case["checks"] if check["ok"] is False)
    assert proof["mutant"]["verdict"] == "FAIL"


def test_statement_is_an_intoto_statement_of_the_whole_required_set(statement: Entry) -> None:
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    release, config = statement["subject"]
    assert len(release["digest"]["sha256"]) == len(config["digest"]["sha256"]) == 64
    predicate = statement["predicate"]
    assert predicate["verdict"] == "PASS"
    assert sorted(predicate["required"]) == sorted(PROOFS)
    assert predicate["host"]["boot_id"]
    assert predicate["git_revision"]
    assert "ExecStart=" in predicate["unit"]
    for proof in predicate["proofs"]:
        assert {"name", "verdict", "measured", "bound", "n", "witness", "restored", "mutant"} <= proof.keys()


def test_statement_follows_from_the_recording_alone(home: Path, statement: Entry) -> None:
    assert bundle.build(evidence.read(home / "events.jsonl")) == statement


def test_every_change_of_the_host_was_announced(home: Path) -> None:
    announced: list[list[str]] = []
    for event in evidence.read(home / "events.jsonl"):
        if event["kind"] == "intent":
            announced.append(event["argv"])
        changes = {"restart", "stop", "kill", "daemon-reload", "reset-failed"} & set(event["argv"])
        if event["kind"] == "command" and (changes or event["argv"][0] == "systemd-run"):
            assert event["argv"] in announced


def test_buglog_opens_with_what_identifies_the_run(home: Path) -> None:
    text = (home / "BUGLOG.md").read_text()
    opening = text[: text.index("### exit12")]
    for word in (
        "host",
        "kernel",
        "systemd",
        "unit",
        "engine release",
        "git revision",
        "health before",
        "health after",
    ):
        assert f"| {word} |" in opening
    for when in ("before", "after"):
        assert f"| pressure {when}" in opening
    for name in PROOFS:
        assert f"| {name} | **PASS** |" in opening
    assert "$ systemctl daemon-reload" in text


@pytest.mark.holds("RESTORED")
def test_host_is_as_it_was(installed: Lab, before: dict[str, str], statement: Entry) -> None:
    assert picture(installed) == before


def test_scratch_ticks_never_reach_the_operators_database(installed: Lab, statement: Entry) -> None:
    script = (
        "import sqlite3; c = sqlite3.connect('file:/var/lib/hybrid-engine/hybrid.db?mode=ro', uri=True);"
        'print(c.execute("SELECT group_concat(DISTINCT ingest_mode) FROM runs").fetchone()[0])'
    )
    assert installed.root("python3", "-c", script).stdout.strip() == "SYNTHETIC"


def test_plan_looks_and_does_nothing(installed: Lab) -> None:
    places = ("/etc", "/opt", "/run/systemd", EVIDENCE, "/run/hybrid-proofs", "/var/lib/hybrid-deploy")
    still, process = fingerprint(installed, *places), installed.root("pgrep", "-f", "hybrid-engine").stdout
    said = installed.root(PROGRAM, "plan").stdout
    for name, proof in PROOFS.items():
        assert f"{name}: {proof.claim}" in said
    assert "away from its real work" in said
    assert "NO " not in said
    assert fingerprint(installed, *places) == still
    assert installed.root("pgrep", "-f", "hybrid-engine").stdout == process


def test_one_proof_at_a_time(installed: Lab) -> None:
    installed.root(PROGRAM, "run", "stall", "--run", "first", "--no-wait")
    try:
        second = installed.root(PROGRAM, "run", "sampling", "--run", "second", check=False)
    finally:
        installed.root("systemctl", "stop", "hybrid-proof-first.service")
    assert second.returncode == 2
    assert "refused: " in second.stdout + second.stderr


@pytest.mark.parametrize("name", ["nonsense", "exit12,stall"])
def test_unknown_proof_is_refused_by_name(installed: Lab, name: str) -> None:
    said = installed.root(PROGRAM, "run", name, check=False)
    assert said.returncode == 2
    assert name in said.stderr
    assert "failover" in said.stderr


def test_refused_while_live(installed: Lab) -> None:
    place = "/run/systemd/system/hybrid-engine.service.d"
    script = f"mkdir -p {place} && printf '[Service]\\nEnvironment=HYBRID_ENGINE__MODE=LIVE\\n' > {place}/live.conf"
    installed.root("sh", "-c", f"{script} && systemctl daemon-reload")
    try:
        said = installed.root(PROGRAM, "run", "exit12", check=False)
        planned = installed.root(PROGRAM, "plan", "exit12", check=False)
    finally:
        installed.root("sh", "-c", f"rm -r {place} && systemctl daemon-reload")
    assert said.returncode == planned.returncode == 2
    assert "mode is not LIVE" in said.stderr
    assert "NO  mode is not LIVE" in planned.stdout
