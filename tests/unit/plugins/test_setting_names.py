"""A variable that is nearly a setting is told of, with the setting that was meant."""

from __future__ import annotations

import pytest

from plugins.module_utils.setting_names import read_own_names, read_settings, unknown_names


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("engine_sampel_every", "did you mean engine_sample_every?"),
        ("engine_source", "did you mean engine_sources?"),
        ("enginesample_every", "did you mean engine_sample_every?"),
        ("preflight_freemb", "did you mean preflight_free_mb?"),
        ("proofs_evidence", "did you mean proof_evidence?"),
        ("engine_root", "it is always /opt/hybrid-engine"),
        ("engine_user", "it is always hybrid-engine"),
    ],
)
def test_name_that_is_nearly_a_setting(name: str, told: str) -> None:
    (sentence,) = unknown_names({name, "ansible_host"}, read_settings())
    assert sentence.startswith(f"Its variable {name} ")
    assert told in sentence


def test_settings_and_variables_of_others_pass() -> None:
    others = {"engine_room", "release_channel", "proof", "dropin", "ansible_user", "group_names", "lab_name", "symbol"}
    assert unknown_names(read_settings() | others, read_settings()) == []


def test_what_roles_register_is_no_mistyped_setting() -> None:
    """It is a variable of the host in the plays after the one that registers it."""
    own = read_own_names()
    assert {"preflight_probe", "preflight_host", "engine_uninstall", "systemd_service_plan"} <= own
    assert "engine_sampel_every" not in own
