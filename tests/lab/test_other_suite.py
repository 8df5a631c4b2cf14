"""The other Debian: what is deployed and proven on one is deployed and proven on the other."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.deployment import ENGINE_ALONE, UNIT, live, pid, play
from tests.lab.labs import STATE, SUITE, Lab, MakeLab, lab_py, wait_for
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


@pytest.fixture
def upgraded(make_lab: MakeLab, other: Lab) -> Iterator[Lab]:
    """A host with engine and proofs whose system became the other one, as by an upgrade in place."""
    lab = make_lab(proofs=True)
    lab_py("poweroff", lab.name)
    facts, newer = (json.loads((STATE / each.name / "lab.json").read_text()) for each in (lab, other))
    facts |= {key: newer[key] for key in ("suite", "rootfs")}
    (STATE / lab.name / "lab.json").write_text(json.dumps(facts))
    lab.boot()
    yield lab
    lab.down()


def test_host_that_is_upgraded_under_its_release(upgraded: Lab) -> None:
    """The engine stays down with one line, everything that looks names it, and the next deployment heals it."""
    lab, old = upgraded, live(upgraded)
    show = ("systemctl", "show", "--property=ActiveState,ExecMainStatus,NRestarts", "--value", UNIT)
    wait_for("its end", lambda: "failed" in lab.root(*show).stdout, 60)
    assert sorted(lab.root(*show).stdout.split()) == ["0", "12", "failed"]
    health = lab.root("/opt/hybrid-engine/current/bin/hybrid-engine", "health", check=False)
    assert (health.returncode, health.stderr.count("\n")) == (12, 1), health.stderr
    needs = "needs python"
    assert needs in health.stderr
    assert "cannot run on this host any more" in play(lab, "preflight").text
    assert f"the release {needs}" in play(lab, "verify", check=False).text
    refused = play(lab, "rollback", check=False, release=old)
    assert f"release {old} cannot run on this host" in refused.text
    play(lab, "deploy", ENGINE_ALONE)
    assert (pid(lab) > 0, live(lab) != old) == (True, True)
    play(lab, "deploy")
    play(lab, "verify")
