"""Every key of the engine's configuration is a variable of the role engine, with the same type and default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hybrid_engine.config.load import KEYS

ROLE = Path(__file__).parents[3] / "roles/engine"
# Keys of config.toml that the role decides by itself: it writes the sources beside config.toml.
FIXED = {"engine.sources_file"}


def variable(key: str) -> str:
    """The role's variable for a key of config.toml."""
    table, _, name = key.rpartition(".")
    special = {"engine.replay_from": "replay_", "channels": "channel_", "dashboard": "dashboard_"}
    return f"engine_{special.get(table, '')}{name}"


@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())
    return dict(specs["argument_specs"]["main"]["options"])


@pytest.mark.parametrize("key", sorted(set(KEYS) - FIXED))
def test_every_key_is_a_variable_with_the_same_default(options: dict[str, Any], key: str) -> None:
    entry = options[variable(key)]
    field = KEYS[key]
    assert entry["default"] == field.default
    assert entry["type"] == getattr(field.type, "__name__", field.type)
    lines = (ROLE / "templates/config.toml.j2").read_text().splitlines()
    start = f"{key.rpartition('.')[2]} = "
    assert any(line.startswith(start) and variable(key) in line for line in lines)
