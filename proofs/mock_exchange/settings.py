"""The settings of an exchange: by flags, by a TOML or JSON script, or from Python."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from proofs.mock_exchange.errors import MockExchangeError


class SettingsError(MockExchangeError):
    """A setting that is unknown or invalid; the message names it, its value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every default of the mock exchange. Times in seconds, rates in trades a second."""

    host: str = "127.0.0.1"
    port: int = 0
    captures: tuple[str, ...] = ()
    seed: int | None = None
    count: int | None = None
    rate: float = 100.0
    speed: float | None = None
    noise: float | None = None
    first_id: int = 1
    ids: str = "run"
    clock: str = "now"
    keep_symbols: bool = False
    each: bool = False
    hold: bool = False
    close_after: int | None = None
    close_times: int | None = None
    trades_per_frame: int = 1
    heartbeat: float = 5.0
    ping: float = 20.0
    tls_cert: str | None = None
    tls_key: str | None = None
    until_stdin_closes: bool = False
    do: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        def require(valid: bool, name: str, allowed: str) -> None:
            if not valid:
                raise SettingsError(f"{name} = {getattr(self, name)!r}: expected {allowed}")

        require(0 <= self.port <= 65535, "port", "0 (any free one) to 65535")
        require(self.count is None or self.count >= 0, "count", "0 or more trades")
        require(self.rate >= 0, "rate", "trades a second, or 0 for as fast as the client reads")
        require(self.speed is None or self.speed > 0, "speed", "a factor above 0")
        require(self.noise is None or self.noise >= 0, "noise", "frames a trade, 0 or more")
        require(self.clock in ("now", "recorded"), "clock", "now or recorded")
        require(self.ids in ("run", "symbol"), "ids", "run or symbol")
        require(self.close_after is None or self.close_after > 0, "close_after", "1 or more trades")
        require(self.trades_per_frame > 0, "trades_per_frame", "1 or more")
        require(self.heartbeat > 0, "heartbeat", "seconds above 0")
        require(self.ping >= 0, "ping", "seconds, or 0 for none")
        require(not (self.captures and self.seed is not None), "seed", "no seed when captures are played")
        require((self.tls_cert is None) == (self.tls_key is None), "tls_key", "a certificate and its key, both")


TYPES: dict[str, Any] = {field.name: field.type for field in fields(Settings)}
_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


def from_mapping(values: Mapping[str, Any]) -> Settings:
    """Settings of a script's table; unknown keys and wrong types raise SettingsError. `a-b` is `a_b`."""
    settings: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in TYPES:
            raise SettingsError(f"unknown setting {key!r}: expected one of {', '.join(sorted(TYPES))}")
        settings[name] = _convert(name, value)
    return Settings(**settings)


def _convert(name: str, value: Any) -> Any:
    kind = str(TYPES[name])
    if value is None and kind.endswith("None"):
        return None
    if kind.startswith("tuple"):
        element: type | tuple[type, ...] = str if name == "captures" else dict
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, element) for one in value):
            raise SettingsError(f"{name} = {value!r}: expected a list of {'paths' if name == 'captures' else 'tables'}")
        return tuple(value)
    allowed = _KINDS[kind.partition(" ")[0]]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise SettingsError(f"{name} = {value!r}: expected {kind}")
    return value


def read_script(source: str) -> dict[str, Any]:
    """The table of a script: a path to TOML or JSON, or a JSON object written out."""
    try:
        if source.lstrip().startswith("{"):
            table = json.loads(source)
        else:
            text = Path(source).read_text(encoding="utf-8")
            table = json.loads(text) if source.endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"script {source}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"script {source[:80]}: {error}") from None
    if not isinstance(table, dict):
        raise SettingsError(f"script {source[:80]}: expected a table of settings")
    return table
