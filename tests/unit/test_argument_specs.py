"""What a role's defaults are and what its argument_specs say they are is the same, for every role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hybrid_engine.config import KEYS

ROLES = Path(__file__).parents[2] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())
PYTHON: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
# Keys of config.toml that the role decides by itself: it writes the sources beside config.toml.
FIXED = {"engine.sources_file"}


def load(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def options(role: str) -> dict[str, Any]:
    specs = load(ROLES / role / "meta/argument_specs.yml")["argument_specs"]
    return dict(specs["main"].get("options", {}))


@pytest.mark.parametrize("role", NAMES)
def test_every_role_says_what_it_takes(role: str) -> None:
    assert (ROLES / role / "meta/argument_specs.yml").is_file()


@pytest.mark.parametrize("role", NAMES)
def test_defaults_and_argument_specs_are_equal(role: str) -> None:
    specs = {name: entry["default"] for name, entry in options(role).items() if "default" in entry}
    assert specs == load(ROLES / role / "defaults/main.yml")


@pytest.mark.parametrize("role", NAMES)
def test_defaults_have_the_type_that_is_documented(role: str) -> None:
    for name, entry in options(role).items():
        assert entry.get("description"), f"{name} is not described"
        default = entry.get("default")
        templated = isinstance(default, str) and "{{" in default
        if default is None or templated:
            continue
        assert isinstance(default, PYTHON[entry["type"]]), f"{name} is {default!r} where {entry['type']} is documented"
        if "choices" in entry:
            assert default in entry["choices"], f"{name} is {default!r}, which is not among its choices"


@pytest.mark.parametrize("role", NAMES)
def test_variables_carry_the_roles_name(role: str) -> None:
    prefix = "lab_" if role == "lab_nuc" else f"{role}_"
    assert all(name.startswith(prefix) for name in options(role))


def variable(key: str) -> str:
    """The role engine's variable for a key of config.toml."""
    table, _, name = key.rpartition(".")
    special = {"engine.replay_from": "replay_", "channels": "channel_", "dashboard": "dashboard_"}
    return f"engine_{special.get(table, '')}{name}"


@pytest.mark.parametrize("key", sorted(set(KEYS) - FIXED))
def test_every_key_of_the_engine_is_a_variable_with_the_same_default(key: str) -> None:
    entry = options("engine")[variable(key)]
    field = KEYS[key]
    assert entry["default"] == field.default
    assert entry["type"] == getattr(field.type, "__name__", field.type)
    text = (ROLES / "engine/templates/config.toml.j2").read_text()
    assert f"{key.rpartition('.')[2]} = " in text
    assert variable(key) in text
