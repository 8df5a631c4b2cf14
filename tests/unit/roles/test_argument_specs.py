"""A role's argument_specs.yml and its defaults say the same: the same variables, with the same defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
DOCUMENTED = sorted(path.parents[1].name for path in ROLES.glob("*/meta/argument_specs.yml"))


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


@pytest.mark.parametrize("role", DOCUMENTED)
def test_specification_and_defaults_are_equal(role: str) -> None:
    defaults = load(ROLES / role / "defaults" / "main.yml")
    specs = load(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]
    options = {name: option for spec in specs.values() for name, option in (spec.get("options") or {}).items()}
    with_default = {name: option["default"] for name, option in options.items() if "default" in option}
    assert with_default == defaults
    for name, option in options.items():
        assert option.get("description"), name
        assert "type" in option, name
        assert option.get("required", False) is False or "default" not in option, name


def test_every_role_that_takes_variables_says_which() -> None:
    assert {path.parents[1].name for path in ROLES.glob("*/defaults/main.yml")} <= set(DOCUMENTED)
