"""The other Debian: what is deployed and proven on one is deployed and proven on the other."""

from __future__ import annotations

import pytest

from tests.lab.labs import SUITE, Lab, MakeLab
from tests.lab.proof_runs import PROGRAM, install

pytestmark = pytest.mark.lab
OTHER = {"bookworm": "trixie", "trixie": "bookworm"}[SUITE]


@pytest.fixture(scope="module")
def other(make_lab: MakeLab) -> Lab:
    lab = make_lab(suite=OTHER)
    install(lab)
    return lab


def test_suite_has_other_systemd_and_python(other: Lab) -> None:
    assert OTHER in other.root("cat", "/etc/os-release").stdout


def test_other_suite_deploys_idempotently(other: Lab) -> None:
    other.ansible("verify.yml")
    output = other.ansible("deploy.yml").stdout.splitlines()
    recap = next(line for line in output if line.startswith(other.name) and "ok=" in line)
    assert "changed=0 " in recap


def test_proof_passes_on_other_suite(other: Lab) -> None:
    process = other.root(PROGRAM, "run", "exit12", "--run", "other", timeout=240)
    output = next(line.split() for line in process.stdout.splitlines() if line.startswith("exit12 "))
    assert output[1:3] == ["PASS", "FAIL"]
