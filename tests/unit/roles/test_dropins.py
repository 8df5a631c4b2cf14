"""Each drop-in of the engine is in every list that has to know it: template, role, verify, rollback proof and docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from proofs.catalog.rollback import CHANGES
from tests.verify.test_dropins import CHECKS

ROOT = Path(__file__).parents[3]
# Drop-ins of other units, which lie beside the engine's.
OF_OTHERS = {"40-hardening-snapshot", "60-journald"}


def role_dropins() -> dict[str, str]:
    """{name: state} of the role engine's list, which is where a drop-in is declared."""
    defaults: dict[str, Any] = yaml.safe_load((ROOT / "roles/engine/defaults/main.yml").read_text())
    return {entry["name"]: entry["state"] for entry in defaults["engine_dropins"]}


def test_every_template_is_deployed_by_the_role() -> None:
    templates = {path.name.removesuffix(".conf.j2") for path in (ROOT / "templates/systemd").glob("*.conf.j2")}
    assert templates - OF_OTHERS == set(role_dropins())
    assert templates >= OF_OTHERS


def test_verify_checks_every_dropin() -> None:
    assert list(CHECKS) == list(role_dropins())


def test_rollback_proof_has_every_dropin_that_is_always_deployed() -> None:
    always = [f"{name}.conf" for name, state in role_dropins().items() if state == "present"]
    assert list(CHANGES) == always


def test_docs_list_every_dropin() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    section = text.partition("\n## Drop-ins\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\d\d-\S+)` \|", section, re.M) == list(role_dropins())
