"""A playbook that finds nothing to work on says so and fails; done with nothing must never look like done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from proofs.catalog import PROOFS

ROOT = Path(__file__).parents[3]
PLAYBOOKS = (
    *("deploy", "verify", "rollback", "restore", "prove", "prove_exit12", "trust", "diagnose"),
    *("history", "preflight", "uninstall"),
)


def play(name: str, inventory: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), f"playbooks/{name}.yml"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL
    )


def test_an_inventory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = play("prove", tmp_path / "nope")
    assert done.returncode != 0
    assert "nope" in done.stdout + done.stderr


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_an_inventory_without_a_host_in_group_nuc_is_an_error(name: str, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"nucs": {"hosts": {"mine": {"ansible_host": "127.0.0.1"}}}}))
    done = play(name, inventory)
    assert done.returncode != 0
    assert "has no host in group nuc" in " ".join(done.stdout.split())


def test_every_proof_has_a_playbook_and_is_a_choice() -> None:
    spec = yaml.safe_load((ROOT / "roles/proof/meta/argument_specs.yml").read_text())
    assert spec["argument_specs"]["main"]["options"]["proof_names"]["choices"] == [*PROOFS]
    for name in PROOFS:
        assert (ROOT / f"playbooks/prove_{name}.yml").is_file()
