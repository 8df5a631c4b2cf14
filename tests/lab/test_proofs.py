"""The proofs on hosts that Ansible deployed to: they PASS, their mutants FAIL, and the evidence bears it out.

It is signed on the controller and verified there, and on the host, which reads off itself what is live.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import PROOFS, REQUIRED
from proofs.evidence import recorder
from proofs.evidence import statement as bundle
from tests.lab.labs import Lab, MakeLab
from tests.lab.proof_runs import PROGRAM, picture, rows
from tests.lab.same_verdict import shares

pytestmark = pytest.mark.lab
Entry = dict[str, Any]
# What any host has to show. What only a lab can is proven in test_drift.py.
SHOWN = REQUIRED["nuc"]


@dataclass
class Site:
    """A host, the proofs that it ran, what the playbook said of them, and the evidence as that brought it home."""

    lab: Lab
    names: list[str]
    root: Path
    before: dict[str, str] = field(default_factory=dict)
    rc: int = -1
    output: str = ""

    @property
    def home(self) -> Path:
        assert (self.root / self.lab.name).is_dir(), self.output
        (home,) = (self.root / self.lab.name).iterdir()
        return home

    @property
    def expected(self) -> list[str]:
        """What verifier and signer are told to require of it."""
        return [f"--required={','.join(self.names)}"]

    @property
    def statement(self) -> Entry:
        statement: Entry = json.loads((self.home / "statement.json").read_text())
        return statement

    def prove(self) -> None:
        self.before = picture(self.lab)
        words = {"proof_names": self.names, "proof_evidence": str(self.root)}
        key = {"prove_signing_key": f"{self.root}/key", "prove_signing_key_make": True}
        process = self.lab.ansible("prove.yml", "-e", json.dumps(words | key), check=False, timeout=1200)
        self.rc, self.output = process.returncode, process.stdout + process.stderr


@pytest.fixture(scope="module")
def sites(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> list[Site]:
    """Two hosts that share the proofs out among themselves and run them side by side, as each takes minutes."""
    sites = [Site(make_lab(proofs=True), names, tmp_path_factory.mktemp("evidence")) for names in shares(SHOWN, 2)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(Site.prove, sites))
    return sites


@pytest.fixture(scope="module", params=[0, 1])
def site(sites: list[Site], request: pytest.FixtureRequest) -> Site:
    chosen: Site = sites[request.param]
    return chosen


def entry(sites: list[Site], name: str) -> Entry:
    (proof,) = (p for site in sites for p in site.statement["predicate"]["proofs"] if p["name"] == name)
    assert isinstance(proof, dict)
    return proof


@pytest.mark.parametrize("name", SHOWN)
def test_passes(sites: list[Site], name: str) -> None:
    proof = entry(sites, name)
    assert proof["verdict"] == "PASS", proof["reason"]
    assert {case["verdict"] for case in proof["cases"]} == {"PASS"}
    assert proof["restored"]
    assert proof["measured"]
    assert proof["bound"]
    assert proof["n"] >= 1
    assert all(proof["witness"].values())


def test_playbook_reports_success(site: Site) -> None:
    assert site.rc == 0, site.output


@pytest.mark.holds("MUTANTS")
@pytest.mark.parametrize(("name", "mutant"), [(name, m.name) for name in SHOWN for m in PROOFS[name].mutants])
def test_mutant_is_caught_at_the_guard(sites: list[Site], name: str, mutant: str) -> None:
    proof = entry(sites, name)
    (result,) = (each for each in proof["mutant"]["each"] if each["name"] == mutant)
    assert result["verdict"] == "FAIL", result["reason"]
    failed = [case for case in result["cases"] if case["verdict"] == "FAIL"]
    assert failed
    for case in failed:
        assert case["witness"]
        assert all(check["guard"] for check in case["checks"] if check["ok"] is False)
    assert proof["mutant"]["verdict"] == "FAIL"


def test_statement_is_in_toto_and_complete(site: Site) -> None:
    statement = site.statement
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    release, config, unit = statement["subject"]
    assert {len(subject["digest"]["sha256"]) for subject in (release, config, unit)} == {64}
    predicate = statement["predicate"]
    kinds = {tuple(part.split(" ")[1:3]) for part in predicate["unit_parts"]}
    assert ("environment", "PATH") in kinds
    assert ("file", "/etc/systemd/system/hybrid-engine.service.d/40-hardening.conf") in kinds
    assert predicate["void"] == []
    assert all(predicate["settings"][name]["as_deployed"] for name in site.names if not PROOFS[name].in_place)
    assert predicate["verdict"] == "PASS"
    assert sorted(predicate["required"]) == sorted(site.names)
    assert predicate["host"]["boot_id"]
    assert predicate["git_revision"]
    assert "ExecStart=" in predicate["unit"]
    for proof in predicate["proofs"]:
        assert {"name", "verdict", "measured", "bound", "n", "witness", "restored", "mutant"} <= proof.keys()


def test_statement_is_rebuilt_from_events(site: Site) -> None:
    assert bundle.build(recorder.read(site.home / "events.jsonl")) == site.statement


def test_every_host_action_was_announced(site: Site) -> None:
    announced: list[list[str]] = []
    for event in recorder.read(site.home / "events.jsonl"):
        if event["kind"] == "intent":
            announced.append(event["argv"])
        changes = {"restart", "stop", "kill", "daemon-reload", "reset-failed"} & set(event["argv"])
        if event["kind"] == "command" and (changes or event["argv"][0] == "systemd-run"):
            assert event["argv"] in announced


def test_buglog_identifies_the_run(site: Site) -> None:
    text = (site.home / "BUGLOG.md").read_text()
    opening = text[: text.index(f"### {site.names[0]}")]
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
    for name in site.names:
        assert f"| {name} | **PASS** |" in opening
    assert "$ systemctl daemon-reload" in (site.home / "log" / f"{site.names[0]}.md").read_text()


@pytest.mark.holds("RESTORED")
def test_host_is_as_it_was(site: Site) -> None:
    assert picture(site.lab) == site.before


def test_scratch_ticks_stay_out_of_the_operators_database(site: Site) -> None:
    assert rows(site.lab)["modes"] == ["SYNTHETIC"]


def proofs(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proofs.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def live(lab: Lab) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(lab.root(PROGRAM, "live").stdout)
    return answer


def options(lab: Lab) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in live(lab).items() if name != "unit_parts"]


def test_incomplete_run_is_not_signed(sites: list[Site]) -> None:
    one, other = sites
    for name in other.names:
        assert f"required: {name} was not run" in one.output
    assert not (one.home / "statement.sig").exists()


def test_lab_key_is_an_allowed_signer(site: Site) -> None:
    root = site.root
    (line,) = (root / "allowed_signers").read_text().splitlines()
    assert line.startswith('lab namespaces="hybrid-engine-proofs" ssh-ed25519 ')
    assert (root / "key").stat().st_mode & 0o777 == 0o600


def test_every_blob_is_fetched(site: Site) -> None:
    result = proofs("verify", site.home, "--allowed-signers", site.root / "allowed_signers", "--skip-live")
    assert result.returncode == 1
    assert "recording: " not in result.stdout
    assert "verdicts: " not in result.stdout


@pytest.fixture(scope="module")
def signed(sites: list[Site]) -> Site:
    site = sites[0]
    result = proofs("sign", site.home, "--key", site.root / "key", *site.expected, *options(site.lab))
    assert result.returncode == 0, result.stdout + result.stderr
    return site


def test_bundle_is_allowed_until_the_config_changes(signed: Site) -> None:
    lab, root = signed.lab, signed.root
    signers = root / "allowed_signers"
    result = proofs("verify", signed.home, "--allowed-signers", signers, *signed.expected, *options(lab))
    assert result.returncode == 0, result.stdout
    shutil.copytree(root, f"/proc/{lab.pid()}/root/root/evidence")
    there = "/root/evidence"
    words = (
        PROGRAM,
        "verify",
        f"{there}/{signed.home.relative_to(root)}",
        f"--allowed-signers={there}/allowed_signers",
    )
    said_there = lab.root(*words, *signed.expected, "--json", check=False)
    assert said_there.returncode == 0, said_there.stdout
    assert json.loads(said_there.stdout)["steps"]["live"] is True
    lab.ansible("deploy.yml", "-eengine_sample_every=3")
    said_there = lab.root(*words, *signed.expected, check=False)
    assert said_there.returncode == 1
    assert "live: the proof is of another configuration" in said_there.stdout
