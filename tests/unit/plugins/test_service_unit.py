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


def test_process_of_before_a_queued_restart_is_none_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is still active when it is first looked at, and its end is no end of the service."""
    old = {"ActiveState": "active", "MainPID": "7", "InvocationID": "a"}
    new = {"ActiveState": "active", "MainPID": "8", "InvocationID": "b"}
    looks = iter([old, {**old, "ActiveState": "deactivating"}, {**new, "ActiveState": "activating"}, new])
    monkeypatch.setattr(service_unit, "show", lambda unit: next(looks, new))
    monkeypatch.setattr(service_unit.time, "sleep", lambda seconds: None)
    state = service_unit.wait_until_healthy("x.service", [], 10, 0.01, "a")
    assert (state["healthy"], state["MainPID"]) == (True, "8"), state["why"]
    looks = iter([old, new])
    state = service_unit.wait_until_healthy("x.service", [], 10, 0.01)
    assert not state["healthy"], "its process was replaced"


def test_restart_that_never_begins_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_unit, "show", lambda unit: {"ActiveState": "active", "InvocationID": "a"})
    state = service_unit.wait_until_healthy("x.service", [], 0.01, 0, "a")
    assert (state["healthy"], state["why"]) == (False, "its restart did not begin within 0.01 s")
