"""Limits of the guarantees: each can be passed by a valid value, and the defaults are within all of them."""

from __future__ import annotations

from typing import Any

import pytest

from hybrid_engine import cli
from hybrid_engine.config.limits import LEAST_RETENTION, LIMITS, Limit, void_guarantees
from hybrid_engine.config.load import KEYS, load_config
from tests.guarantees import PROMISES

DEFAULTS = load_config(None, {"app.symbol": "BTC/USD"}, environ={}).values
ALL = (*LIMITS, LEAST_RETENTION)


def beyond(limit: Limit) -> list[Any]:
    """Valid values beyond the limit, one for each side of it."""
    meta = KEYS[limit.key].metadata
    if isinstance(limit.holds, str):
        return [choice for choice in meta["choices"] if choice != limit.holds] or ["/elsewhere"]
    low, high = limit.holds
    return [meta["low"]] * (meta["low"] < low) + [meta["high"]] * (meta["high"] > high)


def test_defaults_void_no_guarantee() -> None:
    assert void_guarantees(DEFAULTS) == []


@pytest.mark.parametrize("limit", ALL, ids=lambda limit: limit.key)
def test_each_limit_can_be_passed_by_a_valid_value(limit: Limit) -> None:
    assert limit.guarantee in PROMISES
    values = [value for value in beyond(limit) if value or limit is not LEAST_RETENTION]
    if limit is LEAST_RETENTION:
        values = [0.5]  # 0 keeps everything
    assert values, "nothing valid lies beyond it"
    for value in values:
        (text,) = void_guarantees({**DEFAULTS, limit.key: value})
        assert text.startswith(f"{limit.guarantee}: {limit.key} = ")


def test_one_key_has_one_limit() -> None:
    assert len({limit.key for limit in ALL}) == len(ALL)


def test_limits_themselves_are_allowed() -> None:
    for limit in ALL:
        values = [limit.holds] if isinstance(limit.holds, str) else limit.holds
        for value in values:
            assert void_guarantees({**DEFAULTS, limit.key: value}) == []


def test_config_check_names_key_value_limit_and_guarantee(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_ENGINE__ENGINE__NETWORK_DEADLINE_S", "86400")
    with pytest.raises(SystemExit) as end:
        cli.main(["config", "check"])
    assert end.value.code == 0, "the engine may run with it"
    lines = capsys.readouterr().out.splitlines()
    assert "void G5: engine.network_deadline_s = 86400, and it holds from 5 to 600" in lines
