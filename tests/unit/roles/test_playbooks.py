"""A playbook without a host to work on fails and says so; and every proof has its playbook."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from proofs.catalog.names import NAMES

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


def test_missing_inventory_is_an_error(tmp_path: Path) -> None:
    done = play("prove", tmp_path / "nope")
    assert done.returncode != 0
    assert "nope" in done.stdout + done.stderr


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_inventory_without_group_nuc_is_an_error(name: str, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"nucs": {"hosts": {"mine": {"ansible_host": "127.0.0.1"}}}}))
    done = play(name, inventory)
    assert done.returncode != 0
    assert "has no host in group nuc" in " ".join(done.stdout.split())


def test_every_proof_is_a_choice_of_the_role() -> None:
    spec = yaml.safe_load((ROOT / "roles/proof/meta/argument_specs.yml").read_text())
    assert spec["argument_specs"]["main"]["options"]["proof_names"]["choices"] == [*NAMES]


def test_every_proof_has_a_playbook_of_its_own() -> None:
    playbooks = {path.stem.removeprefix("prove_"): path for path in (ROOT / "playbooks").glob("prove_*.yml")}
    assert set(playbooks) == set(NAMES)
    for name, path in playbooks.items():
        (play,) = yaml.safe_load(path.read_text())
        assert (play["ansible.builtin.import_playbook"], play["vars"]) == ("prove.yml", {"proof_names": [name]})


def test_readme_has_every_tag() -> None:
    """Guards have the tag `always`, and the README the others."""
    texts = [path.read_text() for folder in ("playbooks", "roles") for path in (ROOT / folder).rglob("*.yml")]
    tags = {tag for text in texts for found in re.findall(r"tags: \[([^]]*)\]", text) for tag in found.split(", ")}
    documented = set(re.findall(r"--tags (\w+)", (ROOT / "README.md").read_text()))
    assert tags - {"always"} == documented
