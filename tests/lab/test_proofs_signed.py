"""A proof is signed on the controller and verified there, and on the host, which reads off itself what is live."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.labs import Lab
from tests.lab.proving import PROGRAM, install

pytestmark = pytest.mark.lab
ONE = "sampling"  # the quickest of them; `make prove` signs the whole set


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture(scope="module")
def told(lab: Lab, root: Path) -> str:
    """What the playbook says when one proof is asked for and there is a key to sign with."""
    install(lab)
    words = {"proof_names": [ONE], "proof_evidence": str(root), "prove_signing_key": f"{root}/key"}
    done = lab.ansible("prove.yml", "-e", json.dumps({**words, "prove_signing_key_make": True}), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(lab: Lab, root: Path, told: str) -> Path:
    (found,) = (root / lab.name).iterdir()
    return found


def proofs(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proofs.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def live(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.root(PROGRAM, "live").stdout)
    return found


def options(lab: Lab) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in live(lab).items()]


def test_part_of_what_has_to_be_shown_is_not_signed(told: str, home: Path) -> None:
    assert "required: exit12 was not run" in told
    assert not (home / "statement.sig").exists()


def test_the_key_is_the_labs_own_and_named_among_the_allowed_signers(told: str, root: Path) -> None:
    (line,) = (root / "allowed_signers").read_text().splitlines()
    assert line.startswith('lab namespaces="hybrid-engine-proofs" ssh-ed25519 ')
    assert (root / "key").stat().st_mode & 0o777 == 0o600


def test_every_blob_came_home_with_the_events(home: Path) -> None:
    said = proofs("verify", home, "--allowed-signers", home.parent.parent / "allowed_signers", "--skip-live")
    assert said.returncode == 1
    assert "recording: " not in said.stdout
    assert "verdicts: " not in said.stdout


@pytest.fixture(scope="module")
def signed(lab: Lab, home: Path, root: Path) -> Path:
    said = proofs("sign", home, "--key", root / "key", f"--required={ONE}", *options(lab))
    assert said.returncode == 0, said.stdout + said.stderr
    return home


def test_allowed_on_the_controller_and_on_the_host_until_the_config_is_another(
    lab: Lab, signed: Path, root: Path
) -> None:
    signers = root / "allowed_signers"
    said = proofs("verify", signed, "--allowed-signers", signers, f"--required={ONE}", *options(lab))
    assert said.returncode == 0, said.stdout
    shutil.copytree(root, f"/proc/{lab.pid()}/root/root/evidence")
    there = "/root/evidence"
    words = (PROGRAM, "verify", f"{there}/{signed.relative_to(root)}", f"--allowed-signers={there}/allowed_signers")
    said_there = lab.root(*words, f"--required={ONE}", "--json", check=False)
    assert said_there.returncode == 0, said_there.stdout
    assert json.loads(said_there.stdout)["steps"]["live"] is True
    lab.ansible("deploy.yml", "-eengine_sample_every=3")
    said_there = lab.root(*words, f"--required={ONE}", check=False)
    assert said_there.returncode == 1
    assert "live: the proof is of another configuration" in said_there.stdout
