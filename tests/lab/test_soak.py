"""Soaks on a host: by the playbook to a signed bundle, and every way to end one leaves the host as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.deployment import UNIT
from tests.lab.labs import Lab, wait_for
from tests.lab.proof_runs import EVIDENCE, PROGRAM, picture, rows, wait_until_as
from tests.support import programs

pytestmark = pytest.mark.lab
QUICK = ("--seconds=60", "--stall-threshold-sec=4")
# The deployed engine, made to end with 13 once that file is gone; then as it is.
ENDS = """
[Service]
NotifyAccess=all
ExecStart=
ExecStart=/bin/sh -c '[ -e /run/soak-test ] || exec {engine} run; \\
  {engine} run & p=$!; while [ -e /run/soak-test ]; do sleep 0.1; done; kill $p; wait $p; exit 13'
"""


@pytest.fixture(scope="module")
def soaked(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Path, str]:
    """A host that was deployed to and soaked by the playbook; where its evidence went; what was told."""
    lab.ansible("deploy.yml", "-e", "engine_heartbeat_interval_secs=0.5", "-e", "engine_tick_interval_ms=100")
    evidence = tmp_path_factory.mktemp("soak")
    soak = {"seconds": 10, "stall_threshold_s": 4, "psi_actions": "logonly", "mode": "MOCK_WS"}
    key = {"prove_signing_key": f"{evidence}/key", "prove_signing_key_make": True}
    words = {f"soak_{name}": value for name, value in soak.items()} | {"proof_evidence": str(evidence), **key}
    outcome = lab.ansible("soak.yml", "-e", json.dumps(words))
    return lab, evidence, outcome.stdout


def decisions(text: str) -> list[str]:
    return [json.loads(line)["action"] for line in text.splitlines()]


def begin(lab: Lab, *words: str) -> subprocess.Popen[str]:
    """Soak by hand; come back when it watches."""
    before = set(lab.root("ls", EVIDENCE).stdout.split())
    argv = [sys.executable, "roles/lab_nuc/files/lab.py", "exec", lab.name, "--", PROGRAM, "soak", *QUICK, *words]
    process = programs.start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    look = f"grep -l '\"witness\"' {EVIDENCE}/*/events.jsonl"
    wait_for(
        "the watch", lambda: any(run not in before for run in _runs(lab.root("sh", "-c", look, check=False).stdout))
    )
    return process


def _runs(paths: str) -> list[str]:
    return [path.split("/")[-2] for path in paths.split()]


def test_the_playbook_brings_home_a_bundle_that_is_signed_and_verified(soaked: tuple[Lab, Path, str]) -> None:
    lab, evidence, output = soaked
    (home,) = (evidence / lab.name).iterdir()
    assert home.name.startswith("soak-")
    assert "soak: COMPLETE: 10 s are over" in output
    assert "signed: " in output
    verify = [sys.executable, "-m", "proofs.cli", "verify", str(home), "--required=soak"]
    result = subprocess.run(
        [*verify, f"--allowed-signers={evidence}/allowed_signers"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert decisions((home / "decisions.jsonl").read_text()) == ["STARTUP", "ENGINE_RESTART", "COMPLETE", "ENGINE_STOP"]
    on_host = lab.root("cat", f"{EVIDENCE}/{home.name}/decisions.jsonl").stdout
    assert on_host == (home / "decisions.jsonl").read_text()


def test_made_up_ticks_went_to_a_database_of_their_own(soaked: tuple[Lab, Path, str]) -> None:
    assert rows(soaked[0])["modes"] == ["SYNTHETIC"]


def test_a_soak_that_is_killed_leaves_the_host_as_it_was(soaked: tuple[Lab, Path, str]) -> None:
    lab = soaked[0]
    before = picture(lab)
    process = begin(lab, "--mode=MOCK_WS")
    assert "zz-soak.conf" in picture(lab)["run"]
    lab.root("sh", "-c", "systemctl kill --kill-whom=main --signal=KILL 'hybrid-proof-*.service'")
    process.communicate(timeout=60)
    wait_until_as(lab, before)
    assert rows(lab)["modes"] == ["SYNTHETIC"]


def test_the_unit_is_stopped_like_any_other_and_the_host_is_as_it_was(soaked: tuple[Lab, Path, str]) -> None:
    lab = soaked[0]
    before = picture(lab)
    run = lab.root(PROGRAM, "soak", "--as-installed").stdout.strip()
    path = f"{EVIDENCE}/{run}/decisions.jsonl"
    wait_for("its restart", lambda: "ENGINE_RESTART" in lab.root("cat", path, check=False).stdout)
    lab.root("systemctl", "stop", "hybrid-soak.service")
    assert decisions(lab.root("cat", path).stdout)[2] == "STOP"
    assert picture(lab) == before


def test_an_exit_is_seen_in_the_journal_and_acted_upon(soaked: tuple[Lab, Path, str]) -> None:
    """13, by the deployed unit under the deployed hardening: one step up, in force with systemd's own restart."""
    lab = soaked[0]
    drop_in = f"/etc/systemd/system/{UNIT}.d/90-test.conf"
    text = ENDS.format(engine="/opt/hybrid-engine/current/bin/hybrid-engine")
    lab.root("sh", "-c", f"cat > {drop_in} <<'EOF'\n{text}\nEOF\ntouch /run/soak-test")
    lab.root("sh", "-c", f"systemctl daemon-reload && systemctl restart {UNIT}")
    process = begin(lab)
    lab.root("rm", "/run/soak-test")
    environment = f"systemctl show {UNIT} --property=Environment,NRestarts,ActiveState"
    wait_for(
        "the step in force", lambda: {"NRestarts=1", "ActiveState=active"} <= set(lab.ssh(environment).stdout.split())
    )
    pid = lab.root("systemctl", "show", "--value", "--property=MainPID", UNIT).stdout.strip()
    assert "HYBRID_ENGINE__ENGINE__SAMPLE_EVERY=5" in lab.root("cat", f"/proc/{pid}/environ").stdout
    lab.root("touch", "/run/hybrid-proofs/ABORT")
    output, _ = process.communicate(timeout=60)
    assert "THROTTLE_UP: 13 OVERLOAD: one of 5 trades from now on" in output
    assert "ABORT: the operator's ABORT file is there" in output
    refused = lab.root(PROGRAM, "soak", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    lab.root("rm", "/run/hybrid-proofs/ABORT", drop_in)
