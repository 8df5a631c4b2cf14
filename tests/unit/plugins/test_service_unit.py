"""Diffs show everything but secrets, and a module's options are those of its documentation."""

from __future__ import annotations

import pytest
import yaml

from tests.unit.plugins.loading import PLUGINS, module, shared

service_unit = shared("service_unit")
MODULES = sorted(path.stem for path in (PLUGINS / "modules").glob("*.py"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('url = "wss://me:pw@example.org/ws"', 'url = "wss://[redacted]@example.org/ws"'),
        (
            'url = "wss://example.org/ws?a=1&token=abc&b=2"',
            'url = "wss://example.org/ws?a=[redacted]&token=[redacted]&b=[redacted]"',
        ),
        ('api_key = "abc"', "api_key = ***"),
        ('  exchange_secret = "abc"', "  exchange_secret = ***"),
        ('url = "wss://example.org/ws/btcusdt@trade"', 'url = "wss://example.org/ws/btcusdt@trade"'),
        ("heartbeat=true&trades=true", "heartbeat=true&trades=true"),
        ("Environment=DB_PASS=abc", "Environment=DB_PASS=***"),
        ('Environment="X_TOKEN=abc def"', 'Environment="X_TOKEN=***'),
        ("KeyringMode=private", "KeyringMode=private"),
    ],
)
def test_only_secrets_are_masked(text: str, shown: str) -> None:
    assert service_unit.redacted(text) == shown


@pytest.mark.parametrize("name", MODULES)
def test_options_are_the_documented_ones(name: str) -> None:
    """ansible-doc reads them as YAML, and the module on the host as JSON."""
    documentation: str = module(name).DOCUMENTATION
    documented = yaml.safe_load(documentation)["options"]
    options = service_unit.options_of(documentation)
    assert {key: dict(value, description="") for key, value in options.items()} == {
        key: dict(value, description="") for key, value in documented.items()
    }
    assert all(value["description"] for value in documented.values())
