"""The deployed settings beside those of each proof, by the output of the engine's own `config check`."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid_engine import cli
from hybrid_engine.config.load import KEYS
from proofs.evidence import settings
from proofs.experiment.subject import config

Events = list[dict[str, Any]]
VOID = "G5: engine.network_deadline_s = 86400, and it holds from 5 to 600"


@pytest.fixture
def checked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    for key, value in (("NETWORK_DEADLINE_S", "86400"), ("DURABILITY", "power"), ("LOG_LEVEL", "WARN")):
        monkeypatch.setenv(f"HYBRID_ENGINE__ENGINE__{key}", value)
    with pytest.raises(SystemExit):
        cli.main(["config", "check"])
    return capsys.readouterr().out


def event(kind: str, scope: str = "", **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "scope": scope, "argv": [], "stdout": "", "data": None, **fields}


def recording(checked: str, *texts: str) -> Events:
    events = [event("command", argv=["env", "/x/hybrid-engine", "config", "check"], stdout=checked), event("run")]
    path = "/run/hybrid-proofs/r1/network/unit/etc/config.toml"
    events += [event("intent", "network", stdout=f"write {path}", data={"text": text}) for text in texts]
    mutant = event("intent", "network/mutant x", stdout=f"write {path}", data={"text": config(batch_rows=7)})
    return [*events, mutant]


def test_each_setting_is_as_deployed_or_changed(checked: str) -> None:
    result = settings.of_proof(recording(checked, config(network_deadline_s=6, durability="power")), "network")
    keys = {*result["as_deployed"], *(change["key"] for change in result["changed"])}
    assert keys == KEYS.keys() - set(settings._OWN)
    assert "engine.durability" in result["as_deployed"]
    assert {change["key"]: change for change in result["changed"]} == {
        "engine.network_deadline_s": {
            "key": "engine.network_deadline_s",
            "deployed": 86400.0,
            "proven": [6],
            "times": [0.000069, 0.000069],
        },
        "engine.log_level": {"key": "engine.log_level", "deployed": "WARN", "proven": ["INFO"]},
        "engine.psi_actions": {"key": "engine.psi_actions", "deployed": "on", "proven": ["off"]},
    }


def test_every_value_that_a_proof_used_counts(checked: str) -> None:
    texts = [config(overload_after_s=seconds, durability="power", log_level="WARN") for seconds in (20, 5)]
    result = settings.of_proof(recording(checked, *texts, "no [toml"), "network")
    (change,) = [change for change in result["changed"] if change["key"] == "engine.overload_after_s"]
    assert (change["proven"], change["times"]) == ([20, 5], [0.5, 2.0])
    assert settings.in_words(change) == "engine.overload_after_s 10.0 -> 20, 5 (x 0.5 to 2)"
    (deadline,) = [change for change in result["changed"] if change["key"] == "engine.network_deadline_s"]
    assert deadline["proven"] == [120.0], "what a scratch configuration does not name has the engine's default"


def test_proof_without_a_configuration_of_its_own_changes_nothing(checked: str) -> None:
    assert settings.of_proof(recording(checked), "network") == {"as_deployed": [], "changed": []}
    assert settings.of_proof([], "network") == {"as_deployed": [], "changed": []}


def test_void_guarantees_are_those_of_config_check(checked: str) -> None:
    assert settings.void_guarantees(recording(checked)) == [VOID]
    assert settings.void_guarantees([]) == []
